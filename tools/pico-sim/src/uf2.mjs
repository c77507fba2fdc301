// UF2 images (https://github.com/microsoft/uf2): blocks of 512 bytes, each with its place.

const FAMILY_RP2040 = 0xe48bff56;
const FLASH = 0x10000000;
const FLASH_SIZE = 2 << 20;

export function parseUf2(file) {
  if (file.length === 0 || file.length % 512) throw new Error('not a UF2 image');
  const blocks = [];
  for (let i = 0; i < file.length / 512; i += 1) {
    const block = file.subarray(i * 512, (i + 1) * 512);
    const word = (at) => block.readUInt32LE(at);
    if (word(0) !== 0x0a324655 || word(4) !== 0x9e5d5157 || word(508) !== 0x0ab16f30) throw new Error('not a UF2 image');
    if (word(28) !== FAMILY_RP2040) throw new Error('not an image for the RP2040');
    if (word(20) !== i || word(24) !== file.length / 512) throw new Error('blocks of the image are missing');
    const at = word(12) - FLASH;
    const length = word(16);
    if (length > 476 || at < 0 || at + length > FLASH_SIZE) throw new Error('the image reaches beyond the flash');
    blocks.push({ at, bytes: block.subarray(32, 32 + length) });
  }
  return blocks;
}
