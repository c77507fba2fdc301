# Three hosts, network namespaces n1 to n3 at 10.0.0.1 to 10.0.0.3, and then the arguments as a command at 10.0.0.254. A
# cable of its own joins each two of them; its end in n1 that leads to n2 is named n2. All of it is gone with the command.
set -eu
export PATH="$PATH:/usr/sbin:/sbin"
mount -t tmpfs none /run
ip link set lo up
for n in 1 2 3; do
    ip netns add n$n
    ip -n n$n link set lo up
    ip link add n$n type veth peer name here netns n$n
    ip addr add 10.0.0.254 peer 10.0.0.$n dev n$n
    ip -n n$n addr add 10.0.0.$n peer 10.0.0.254 dev here
    ip link set n$n up
    ip -n n$n link set here up
done
cable() {
    ip -n n$1 link add n$2 type veth peer name n$1 netns n$2
    ip -n n$1 addr add 10.0.0.$1 peer 10.0.0.$2 dev n$2
    ip -n n$2 addr add 10.0.0.$2 peer 10.0.0.$1 dev n$1
    ip -n n$1 link set n$2 up
    ip -n n$2 link set n$1 up
}
cable 1 2
cable 2 3
cable 3 1
exec "$@"
