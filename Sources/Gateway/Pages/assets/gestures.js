/**
 * What mouse, pen and fingers do on the stage, said in the picture's terms: hover, click (a point label), box, pan,
 * zoom.
 */

/** A pointer that moved farther than this (CSS pixels) drags; else it clicks. */
const DRAG = 6;

/**
 * @typedef {{hover(x: number, y: number, label: 0 | 1, since: number): void, leave(): void,
 *            click(x: number, y: number, label: 0 | 1): void, boxing(box: number[] | null): void,
 *            box(box: number[]): void, readonly tool: 'add' | 'remove' | 'box' | 'pan'}} Hand
 */
export class Gestures {
  /** Pointers that are down. @type {Map<number, {x: number, y: number}>} */
  #down = new Map();
  /**
   * What the first of them is doing.
   * @type {{kind: string, x: number, y: number, button: number, moved: boolean} | null}
   */
  #drag = null;
  /** Whether the space bar is held: then any pointer pans. */
  #space = false;

  /** @param {HTMLElement} element @param {import('./view.js').View} view @param {Hand} hand */
  constructor(element, view, hand) {
    Object.assign(this, { element, view, hand });
    const listen = (type, handler, options) => element.addEventListener(type, handler.bind(this), options);
    listen('pointerdown', this.#onDown);
    listen('pointermove', this.#onMove);
    listen('pointerup', this.#onUp);
    listen('pointercancel', this.#onCancel);
    listen('pointerleave', (event) => event.pointerType !== 'touch' && !this.#drag && this.hand.leave());
    listen('wheel', this.#onWheel, { passive: false });
    listen('contextmenu', (event) => event.preventDefault());
    // Positions as they come, not as frames go: up to 16 ms earlier.
    listen('onpointerrawupdate' in window ? 'pointerrawupdate' : 'pointermove', this.#onHover);
    window.addEventListener('keydown', (event) => this.#onSpace(event, true));
    window.addEventListener('keyup', (event) => this.#onSpace(event, false));
    window.addEventListener('blur', () => this.#setSpace(false));
  }

  #at(event) {
    const bounds = this.element.getBoundingClientRect();
    return [event.clientX - bounds.left, event.clientY - bounds.top];
  }

  /** Alt, or the other button, takes away; with the tool that takes away, they add. */
  #label(event, button = 0) {
    const other = event.altKey || button === 2;
    return (this.hand.tool === 'remove') !== other ? 0 : 1;
  }

  #onHover(event) {
    if (event.pointerType === 'touch' || this.#drag || this.#space) return;
    const [x, y] = this.view.toImage(...this.#at(event));
    if (this.view.contains(x, y) && this.hand.tool !== 'pan') {
      this.hand.hover(x, y, this.#label(event), event.timeStamp);
    } else {
      this.hand.leave();
    }
  }

  #onDown(event) {
    const [x, y] = this.#at(event);
    this.#down.set(event.pointerId, { x, y });
    this.element.setPointerCapture(event.pointerId);
    if (this.#down.size === 2) {
      // A second finger: whatever the first began becomes a pinch.
      this.hand.boxing(null);
      this.#drag = { kind: 'pinch', x, y, button: 0, moved: true };
      return;
    }
    if (this.#down.size > 2) return;
    const pans = event.button === 1 || this.#space || this.hand.tool === 'pan';
    const boxes = this.hand.tool === 'box' || (event.pointerType === 'mouse' && event.button === 0);
    const kind = pans || event.button > 2 ? 'pan' : boxes ? 'box' : event.pointerType === 'touch' ? 'pan' : 'none';
    this.#drag = { kind, x, y, button: event.button, moved: false };
    if (event.button === 1) event.preventDefault();
    this.element.classList.toggle('panning', pans);
  }

  #onMove(event) {
    const before = this.#down.get(event.pointerId);
    if (!before || !this.#drag) return;
    const [x, y] = this.#at(event);
    const drag = this.#drag;
    if (drag.kind === 'pinch') this.#pinch(event.pointerId, x, y);
    this.#down.set(event.pointerId, { x, y });
    if (drag.kind === 'pinch') return;
    if (!drag.moved && Math.hypot(x - drag.x, y - drag.y) < DRAG) return;
    if (!drag.moved) this.hand.leave();
    drag.moved = true;
    if (drag.kind === 'pan') this.view.pan(x - before.x, y - before.y);
    if (drag.kind === 'box') this.hand.boxing(this.#boxTo(drag, x, y));
  }

  #onUp(event) {
    const drag = this.#drag;
    const known = this.#down.delete(event.pointerId);
    this.element.classList.remove('panning');
    if (!known || !drag) return;
    if (this.#down.size > 0) return;
    this.#drag = null;
    const [x, y] = this.#at(event);
    if (drag.kind === 'pinch') return;
    if (drag.moved) {
      if (drag.kind !== 'box') return;
      this.hand.boxing(null);
      const box = this.#boxTo(drag, x, y);
      if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.hand.box(box);
      return;
    }
    const panned = drag.button === 1 || this.#space || this.hand.tool === 'pan';
    const [imageX, imageY] = this.view.toImage(x, y);
    if (!panned && drag.button !== 1 && this.view.contains(imageX, imageY)) {
      this.hand.click(imageX, imageY, this.#label(event, drag.button));
    }
  }

  #onCancel(event) {
    this.#down.delete(event.pointerId);
    this.#drag = null;
    this.element.classList.remove('panning');
    this.hand.boxing(null);
  }

  #pinch(id, x, y) {
    const [[otherId, other]] = [...this.#down].filter(([key]) => key !== id);
    const before = this.#down.get(id);
    if (otherId === undefined) return;
    const distance = (a, b) => Math.max(8, Math.hypot(a.x - b.x, a.y - b.y));
    const factor = distance({ x, y }, other) / distance(before, other);
    this.view.pan((x - before.x) / 2, (y - before.y) / 2);
    this.view.zoomAt((x + other.x) / 2, (y + other.y) / 2, factor);
  }

  #boxTo(drag, x, y) {
    const { imageWidth, imageHeight } = this.view;
    const [ax, ay] = this.view.toImage(drag.x, drag.y);
    const [bx, by] = this.view.toImage(x, y);
    const within = (value, size) => Math.min(Math.max(value, 0), size);
    return [
      within(Math.min(ax, bx), imageWidth), within(Math.min(ay, by), imageHeight),
      within(Math.max(ax, bx), imageWidth), within(Math.max(ay, by), imageHeight),
    ];
  }

  #onWheel(event) {
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    if (event.shiftKey) return this.view.pan(-pixels, 0);
    // A pinch on a touchpad comes as a wheel with ctrl, in small steps.
    const factor = Math.exp(-Math.max(-240, Math.min(240, pixels)) * (event.ctrlKey ? 0.01 : 0.0022));
    this.view.zoomAt(...this.#at(event), factor);
  }

  #onSpace(event, down) {
    if (event.code !== 'Space') return;
    const busy = event.target.closest?.('input, textarea, select, button, a, dialog, summary');
    if (down && busy) return;
    if (down) event.preventDefault();
    this.#setSpace(down);
  }

  #setSpace(down) {
    this.#space = down;
    this.element.classList.toggle('grab', down);
    if (down) this.hand.leave();
  }
}
