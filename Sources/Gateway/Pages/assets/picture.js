/**
 * A picture as the page has it: decoded once, with smaller versions for drawing, and the ways by which one comes in.
 */

/** The picture cannot be shown by this browser. */
export class Undecodable extends Error {}

export class Picture {
  /** @param {ImageBitmap[]} levels the picture, and its halves @param {string} name of its file, without a folder */
  constructor(levels, name) {
    this.levels = levels;
    this.name = name;
    this.width = levels[0].width;
    this.height = levels[0].height;
  }

  /** @param {Blob} blob @param {string} name */
  static async decode(blob, name) {
    const worker = new Worker(new URL('./picture-worker.js', import.meta.url));
    try {
      const answer = await new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = () => reject(new Undecodable('The worker did not start.'));
        worker.postMessage({ blob });
      });
      if (answer.error) throw new Undecodable(answer.error);
      return new Picture(answer.levels, name);
    } finally {
      worker.terminate();
    }
  }

  /** The smallest version that has a pixel for each of the screen's. @param {number} scale screen pixels per pixel */
  levelFor(scale) {
    let level = 0;
    while (level + 1 < this.levels.length && this.levels[level + 1].width >= this.width * scale) level += 1;
    return this.levels[level];
  }

  /** Draws what of the picture is seen, in the picture's own coordinates under the context's transformation. */
  draw(context, scale, [left, top, right, bottom]) {
    const level = this.levelFor(scale);
    const sx = level.width / this.width;
    const sy = level.height / this.height;
    const x0 = Math.max(0, Math.floor(left) - 1);
    const y0 = Math.max(0, Math.floor(top) - 1);
    const x1 = Math.min(this.width, Math.ceil(right) + 1);
    const y1 = Math.min(this.height, Math.ceil(bottom) + 1);
    if (x1 <= x0 || y1 <= y0) return;
    context.imageSmoothingEnabled = scale < 4;
    context.imageSmoothingQuality = 'medium';
    context.drawImage(level, x0 * sx, y0 * sy, (x1 - x0) * sx, (y1 - y0) * sy, x0, y0, x1 - x0, y1 - y0);
  }

  /** The picture as a PNG, for a gateway that does not read the file's own format. */
  toPng() {
    const canvas = document.createElement('canvas');
    canvas.width = this.width;
    canvas.height = this.height;
    canvas.getContext('2d').drawImage(this.levels[0], 0, 0);
    return new Promise((resolve, reject) => {
      canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Undecodable('too large'))), 'image/png');
    });
  }

  close() {
    for (const level of this.levels) level.close();
  }
}

/** The first picture among what was dropped or pasted. @param {DataTransfer | null} data @returns {File | null} */
export function pictureIn(data) {
  for (const file of data?.files ?? []) {
    if (file.type.startsWith('image/') || /\.(jpe?g|png|webp|tiff?|gif|avif|heic)$/i.test(file.name)) return file;
  }
  return data?.files?.[0] ?? null;
}
