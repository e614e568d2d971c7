/**
 * Where the picture lies on the stage. Lengths on the stage are CSS pixels; `scale` is CSS pixels per picture pixel.
 */

const LARGEST = 24;

/** Says `change` when anything of it changed. */
export class View extends EventTarget {
  /** The stage. */
  width = 1;
  height = 1;
  /** The picture. */
  imageWidth = 0;
  imageHeight = 0;
  scale = 1;
  x = 0;
  y = 0;
  /** What of the stage is left free around a picture that is shown whole: tools stand there. */
  margins = { left: 28, top: 28, right: 28, bottom: 28 };
  /** Whether the whole picture is shown; it then stays so when the window changes. */
  fitted = true;

  get #fitScale() {
    const { left, top, right, bottom } = this.margins;
    const across = (this.width - left - right) / this.imageWidth;
    const down = (this.height - top - bottom) / this.imageHeight;
    return Math.max(1e-4, Math.min(across, down, 4));
  }

  /** How much of the picture's own size is shown, as people read it. */
  get percent() {
    return Math.round(this.scale * 100);
  }

  resize(width, height) {
    const dx = (width - this.width) / 2;
    const dy = (height - this.height) / 2;
    this.width = width;
    this.height = height;
    if (this.fitted) this.fit();
    else this.pan(dx, dy);
  }

  setImage(width, height) {
    this.imageWidth = width;
    this.imageHeight = height;
    this.fit();
  }

  fit() {
    if (!this.imageWidth) return;
    this.scale = this.#fitScale;
    const { left, top, right, bottom } = this.margins;
    this.x = left + (this.width - left - right - this.imageWidth * this.scale) / 2;
    this.y = top + (this.height - top - bottom - this.imageHeight * this.scale) / 2;
    this.fitted = true;
    this.#changed();
  }

  /** Zooms so that what lies at (x, y) of the stage stays there. */
  zoomAt(x, y, factor) {
    const smallest = Math.min(this.#fitScale * 0.5, 1);
    const scale = Math.min(LARGEST, Math.max(smallest, this.scale * factor));
    const ratio = scale / this.scale;
    this.x = x - (x - this.x) * ratio;
    this.y = y - (y - this.y) * ratio;
    this.scale = scale;
    this.fitted = false;
    this.#keepInSight();
    this.#changed();
  }

  zoom(factor) {
    this.zoomAt(this.width / 2, this.height / 2, factor);
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.fitted = false;
    this.#keepInSight();
    this.#changed();
  }

  /** Moves no farther than is needed for a point of the picture to be seen. */
  reveal(imageX, imageY) {
    const edge = Math.min(48, this.width / 8);
    const [x, y] = this.toStage(imageX, imageY);
    const dx = x < edge ? edge - x : x > this.width - edge ? this.width - edge - x : 0;
    const dy = y < edge ? edge - y : y > this.height - edge ? this.height - edge - y : 0;
    if (!this.fitted && (dx || dy)) this.pan(dx, dy);
  }

  toImage(x, y) {
    return [(x - this.x) / this.scale, (y - this.y) / this.scale];
  }

  toStage(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** Whether a point of the picture, in its pixels, is on it. */
  contains(x, y) {
    return x >= 0 && y >= 0 && x < this.imageWidth && y < this.imageHeight;
  }

  /** A quarter of the stage at least keeps the picture, so that it cannot be lost. */
  #keepInSight() {
    const clamp = (value, low, high) => Math.min(Math.max(value, Math.min(low, high)), Math.max(low, high));
    const across = this.imageWidth * this.scale;
    const down = this.imageHeight * this.scale;
    this.x = clamp(this.x, this.width * 0.25 - across, this.width * 0.75);
    this.y = clamp(this.y, this.height * 0.25 - down, this.height * 0.75);
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}
