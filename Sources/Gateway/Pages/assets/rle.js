/**
 * COCO's compressed run-length encoding: columns first, background first, run lengths as differences to the one before
 * the last, five bits a character.
 */

/** @param {string} counts @returns {Uint32Array} lengths of runs, background and foreground in turn */
export function decodeCounts(counts) {
  const runs = new Uint32Array(counts.length);
  let number = 0;
  let at = 0;
  while (at < counts.length) {
    let value = 0;
    let shift = 0;
    let character;
    do {
      character = counts.charCodeAt(at++) - 48;
      value |= (character & 0x1f) << shift;
      shift += 5;
    } while (character & 0x20 && at < counts.length);
    if (character & 0x10 && shift < 32) value |= -1 << shift;
    if (number > 2) value += runs[number - 2];
    runs[number++] = value;
  }
  return runs.subarray(0, number);
}

/**
 * How much of each cell of a coarser grid a mask covers (0…1), exactly: the area of the mask within the cell. The work
 * grows with the number of runs and with the grid's cells, not with the picture's pixels.
 *
 * @param {{segmentation: {size: [number, number], counts: string}, bbox: number[]}} mask
 * @param {number} scale cells per pixel, at most 1
 * @returns {{values: Float32Array, width: number, height: number, x: number, y: number, scale: number}}
 *   rows first; `x` and `y` are the grid's origin in cells; the outermost cells are empty
 */
export function coverage(mask, scale) {
  const [imageHeight] = mask.segmentation.size;
  const runs = decodeCounts(mask.segmentation.counts);
  const [left, top, boxWidth, boxHeight] = mask.bbox;
  const x = Math.floor(left * scale) - 1;
  const y = Math.floor(top * scale) - 1;
  const width = Math.ceil((left + boxWidth) * scale) + 1 - x;
  // One row more than the mask needs takes what a run's end subtracts below its last cell.
  const height = Math.ceil((top + boxHeight) * scale) + 2 - y;
  const values = new Float32Array(width * height);
  let position = 0;
  for (let run = 0; run < runs.length; run += 1) {
    const end = position + runs[run];
    if (run & 1) {
      let column = Math.floor(position / imageHeight);
      let start = position - column * imageHeight;
      let rest = end - position;
      while (rest > 0) {
        const length = Math.min(rest, imageHeight - start);
        const firstColumn = column * scale - x;
        const cell = Math.floor(firstColumn);
        const within = Math.min(scale, cell + 1 - firstColumn);
        addRun(values, width, cell, start * scale - y, (start + length) * scale - y, within);
        if (scale - within > 1e-9) {
          addRun(values, width, cell + 1, start * scale - y, (start + length) * scale - y, scale - within);
        }
        rest -= length;
        start = 0;
        column += 1;
      }
    }
    position = end;
  }
  for (let index = width; index < values.length; index += 1) values[index] += values[index - width];
  return { values, width, height, x, y, scale };
}

/** Adds the beginning and the end of a run to a column; the running sum over the rows makes its cells of them. */
function addRun(values, width, cell, from, to, weight) {
  const first = Math.floor(from);
  const last = Math.floor(to);
  const before = (from - first) * weight;
  const after = (to - last) * weight;
  values[first * width + cell] += weight - before;
  values[(first + 1) * width + cell] += before;
  values[last * width + cell] -= weight - after;
  values[(last + 1) * width + cell] -= after;
}

/**
 * The mask, a byte a pixel (255 on the object), rows first, of a part of the picture.
 * @param {{segmentation: {size: [number, number], counts: string}}} mask
 * @param {[number, number, number, number]=} part x, y, width, height; all of the picture where it is left out
 * @param {number=} indent bytes left free before each row
 */
export function pixels(mask, part, indent = 0) {
  const [imageHeight, imageWidth] = mask.segmentation.size;
  const [left, top, width, height] = part ?? [0, 0, imageWidth, imageHeight];
  const stride = width + indent;
  const bytes = new Uint8Array(stride * height);
  const runs = decodeCounts(mask.segmentation.counts);
  let position = 0;
  for (let run = 0; run < runs.length; run += 1) {
    const end = position + runs[run];
    if (run & 1) {
      let column = Math.floor(position / imageHeight);
      let row = position - column * imageHeight;
      for (let rest = end - position; rest > 0; rest -= 1) {
        const x = column - left;
        const y = row - top;
        if (x >= 0 && y >= 0 && x < width && y < height) bytes[y * stride + indent + x] = 255;
        row += 1;
        if (row === imageHeight) {
          row = 0;
          column += 1;
        }
      }
    }
    position = end;
  }
  return bytes;
}
