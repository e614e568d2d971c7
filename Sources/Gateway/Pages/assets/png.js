/**
 * A grey picture of eight bits as a PNG file. A canvas would take four bytes a pixel and write colour.
 */

const CRC = new Uint32Array(256).map((_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value >>> 0;
});

/** @param {string} type @param {Uint8Array} data @returns {Uint8Array[]} length, type, data and checksum */
function chunk(type, data) {
  const head = new Uint8Array(8);
  new DataView(head.buffer).setUint32(0, data.length);
  for (let index = 0; index < 4; index += 1) head[4 + index] = type.charCodeAt(index);
  let crc = 0xffffffff;
  for (const byte of head.subarray(4)) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  for (const byte of data) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  const tail = new Uint8Array(4);
  new DataView(tail.buffer).setUint32(0, (crc ^ 0xffffffff) >>> 0);
  return [head, data, tail];
}

/**
 * @param {Uint8Array} rows rows of `width` bytes, each after one byte that names its filter (0: none)
 * @param {number} width @param {number} height
 * @returns {Promise<Blob>}
 */
export async function greyPng(rows, width, height) {
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, 0, 0, 0, 0], 8);
  const deflated = new Response(new Blob([rows]).stream().pipeThrough(new CompressionStream('deflate')));
  const data = new Uint8Array(await deflated.arrayBuffer());
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [signature, ...chunk('IHDR', header), ...chunk('IDAT', data), ...chunk('IEND', new Uint8Array(0))];
  return new Blob(parts, { type: 'image/png' });
}
