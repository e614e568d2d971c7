/**
 * What can be taken away: cut-outs, masks, and all objects as COCO.
 */

import { maskOf } from './objects.js';
import { greyPng } from './png.js';
import { pixels } from './rle.js';

/** Which objects an export is of: the active one, or else all that are shown. */
export function chosen(objects) {
  if (objects.active) return [objects.active];
  return objects.list.filter((object) => !object.hidden);
}

/** The box around all of the objects. @returns {[number, number, number, number]} x, y, width, height */
function boxAround(objects) {
  let [x0, y0, x1, y1] = [Infinity, Infinity, 0, 0];
  for (const object of objects) {
    const [x, y, width, height] = maskOf(object).bbox;
    x0 = Math.min(x0, x);
    y0 = Math.min(y0, y);
    x1 = Math.max(x1, x + width);
    y1 = Math.max(y1, y + height);
  }
  return [x0, y0, x1 - x0, y1 - y0];
}

/** Pixels that any of the objects covers. */
function union(objects, part, indent) {
  const result = pixels(maskOf(objects[0]), part, indent);
  for (const object of objects.slice(1)) {
    const more = pixels(maskOf(object), part, indent);
    for (let index = 0; index < result.length; index += 1) result[index] |= more[index];
  }
  return result;
}

/**
 * The picture where the objects are, transparent elsewhere, no larger than the objects.
 * @param {import('./picture.js').Picture} picture @param {import('./objects.js').SegmentedObject[]} objects
 * @returns {Promise<Blob>} PNG
 */
export function cutout(picture, objects) {
  const part = boxAround(objects);
  const [x, y, width, height] = part;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d', { willReadFrequently: true });
  context.drawImage(picture.levels[0], -x, -y);
  const alpha = union(objects, part, 0);
  const image = context.getImageData(0, 0, width, height);
  for (let index = 0; index < alpha.length; index += 1) {
    if (alpha[index] === 0) image.data.fill(0, 4 * index, 4 * index + 4);
  }
  context.putImageData(image, 0, 0);
  return new Promise((resolve, reject) => {
    canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error('too large'))), 'image/png');
  });
}

/** As large as the picture, 255 on the objects, 0 elsewhere. @returns {Promise<Blob>} PNG of eight bits */
export function mask(picture, objects) {
  return greyPng(union(objects, [0, 0, picture.width, picture.height], 1), picture.width, picture.height);
}

/** Objects of the same name are of the same category. @returns {object} COCO's instances, masks as compressed RLE */
export function coco(picture, objects) {
  const names = [...new Set(objects.map(({ name }) => name))];
  return {
    info: { description: 'Cut out with Kirie', date_created: new Date().toISOString() },
    licenses: [],
    images: [{ id: 1, file_name: picture.name, width: picture.width, height: picture.height }],
    categories: names.map((name, index) => ({ id: index + 1, name, supercategory: '' })),
    annotations: objects.map((object, index) => {
      const { segmentation, area, bbox, score, stability_score } = maskOf(object);
      return {
        id: index + 1,
        image_id: 1,
        category_id: names.indexOf(object.name) + 1,
        segmentation: { size: segmentation.size, counts: segmentation.counts },
        area,
        bbox,
        iscrowd: 0,
        predicted_iou: score,
        stability_score,
      };
    }),
  };
}

/** Hands a file to the browser's downloads. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has its own hold on the bytes once it has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** A file's name for an export of a picture. */
export function fileName(picture, objects, what) {
  const stem = picture.name.replace(/\.[^.]*$/, '') || 'picture';
  const part = objects.length === 1 ? `-${objects[0].name.replace(/[^\p{L}\p{N}]+/gu, '-')}` : '';
  return `${stem}${part}-${what}`;
}
