// A ZIP archive of files as they are, without compression (APPNOTE.TXT, 4.3.7, 4.3.12 and 4.3.16).

const VERSION = 20;
const UTF8_NAMES = 0x800;
const FIRST_DAY = 0x21; // 1 January 1980
const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit += 1) byte = byte & 1 ? 0xedb88320 ^ (byte >>> 1) : byte >>> 1;
  return byte;
});

// Returns the CRC-32 of bytes: crc32(new TextEncoder().encode("123456789")) is 0xcbf43926.
export function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return ~crc >>> 0;
}

// Returns numbers of so many bytes each, little-endian: packed([2, 0x800], [4, 1]).
function packed(...fields) {
  return Uint8Array.from(fields.flatMap(([size, value]) =>
    Array.from({ length: size }, (_, place) => Math.floor(value / 256 ** place) % 256)));
}

// Returns an archive of files, each {name, data: Blob}, as a Blob.
export async function zipped(files) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, data } of files) {
    const path = new TextEncoder().encode(name);
    const crc = crc32(new Uint8Array(await data.arrayBuffer()));
    const common = packed([2, VERSION], [2, UTF8_NAMES], [2, 0], [2, 0], [2, FIRST_DAY],
      [4, crc], [4, data.size], [4, data.size], [2, path.length], [2, 0]);
    parts.push(packed([4, 0x04034b50]), common, path, data);
    directory.push(packed([4, 0x02014b50], [2, VERSION]), common, packed([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]), path);
    offset += 4 + common.length + path.length + data.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = packed([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, size], [4, offset], [2, 0]);
  return new Blob([...parts, ...directory, end]);
}
