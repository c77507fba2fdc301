// What a test or a measurement asks of the emulator: lines on a socket, one answer each, in the order of the questions.
//
// | line | answer |
// |---|---|
// | `worked` | milliseconds that the chip has worked since power-up, asleep or waiting not counted |
// | `stack` | bytes of the deepest stack so far |
// | `look` | `down` or `up`, once the image has looked at its button again and seen it so |
// | `cut N SEED` | `armed`: the power goes in the middle of the N-th flash operation from now |
// | `profile` | `ADDRESS COUNT,..` since the last such line; the first begins |

import fs from 'node:fs';
import net from 'node:net';
import readline from 'node:readline';

export function listen(path, machine) {
  let waiting = [];
  machine.onLook = (down) => {
    const answers = waiting;
    waiting = [];
    answers.forEach((answer) => answer(down ? 'down' : 'up'));
  };

  const numbers = (words) => words.map((word) => {
    if (!/^[0-9]{1,15}$/.test(word)) throw new Error(`${word} is not a number`);
    return Number(word);
  });
  const commands = {
    worked: () => machine.worked.toFixed(3),
    stack: () => String(machine.stack.used),
    look: () => new Promise((resolve) => waiting.push(resolve)),
    cut: (words) => {
      const [count, seed] = numbers(words);
      if (!(count > 0) || seed === undefined) throw new Error('cut N SEED');
      machine.cutAt(count, seed);
      return 'armed';
    },
    profile: () => [...machine.profile()].map(([at, count]) => `${at.toString(16)} ${count}`).join(','),
  };

  const serve = async (socket) => {
    for await (const line of readline.createInterface({ input: socket })) {
      const [name, ...words] = line.split(' ');
      let answer;
      try {
        answer = Object.hasOwn(commands, name) ? await commands[name](words) : `error: no command ${name}`;
      } catch (error) {
        answer = `error: ${error.message}`;
      }
      socket.write(`${answer}\n`);
    }
  };
  // What a killed emulator has left there.
  fs.rmSync(path, { force: true });
  net.createServer((socket) => {
    socket.on('error', () => socket.destroy());
    serve(socket).catch(() => socket.destroy());
  }).listen(path);
}
