/**
 * Decodes a picture away from the page's own thread, and makes the smaller versions of it that are drawn while the
 * whole of a large picture is shown: each half the size of the one before.
 */

const ENOUGH = 2_000_000;

self.onmessage = async ({ data: { blob } }) => {
  try {
    const levels = [await createImageBitmap(blob)];
    while (levels.at(-1).width * levels.at(-1).height > ENOUGH) {
      const source = levels.at(-1);
      const canvas = new OffscreenCanvas(Math.ceil(source.width / 2), Math.ceil(source.height / 2));
      const context = canvas.getContext('2d');
      context.imageSmoothingQuality = 'high';
      context.drawImage(source, 0, 0, canvas.width, canvas.height);
      levels.push(canvas.transferToImageBitmap());
    }
    self.postMessage({ levels }, levels);
  } catch (error) {
    self.postMessage({ error: String(error) });
  }
};
