/**
 * The objects of a picture and everything that was done to them. A state is never changed, only followed by another, so
 * undo and redo go from state to state and ask nobody for a mask again.
 */

/** Colours of old Japanese papers and dyes, told apart on light and on dark pictures. */
export const COLOURS = ['#e2492f', '#2f74c0', '#f2a71b', '#2f9e77', '#8b6fd0', '#e0719a', '#19a3b8', '#8a9a2b'];

const LONGEST_HISTORY = 300;

/**
 * @typedef {{type: 'point', x: number, y: number, label: 0 | 1, reading?: number}
 *         | {type: 'box', box: [number, number, number, number], reading?: number}
 *         | {type: 'text', text: string, reading?: number}
 *         | {type: 'closer', reading?: number} | {type: 'everything', reading?: number}} Step  what the user did; `reading` is the mask chosen after it
 * @typedef {{id: number, name: string, colour: string, hidden: boolean, steps: Step[],
 *            answer: import('./segmenter.js').Answer, reading: number}} SegmentedObject
 * @typedef {{objects: SegmentedObject[], active: number | null}} State
 */

/** The mask that stands for an object. @param {SegmentedObject} object */
export function maskOf(object) {
  return object.answer.masks[object.reading];
}

/** Says `change` when the state is another one; `event.detail` is what was done. */
export class Objects extends EventTarget {
  /** @type {{state: State, what: string}[]} */
  #past = [];
  #future = [];
  #number = 0;
  /** @type {State} */
  state = { objects: [], active: null };

  get list() {
    return this.state.objects;
  }

  /** The object that clicks go to. @returns {SegmentedObject | undefined} */
  get active() {
    return this.state.objects.find((object) => object.id === this.state.active);
  }

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** How many objects have been begun, for names and colours that are not taken. */
  get nextNumber() {
    return this.#number + 1;
  }

  find(id) {
    return this.state.objects.find((object) => object.id === id);
  }

  /** Another picture: nothing is left to undo. */
  clear() {
    this.#past = [];
    this.#future = [];
    this.#number = 0;
    this.state = { objects: [], active: null };
    this.#changed('clear');
  }

  /**
   * @param {Omit<SegmentedObject, 'id' | 'colour' | 'hidden'> & {colour?: string, hidden?: boolean}} parts
   * @param {boolean} activate whether the next clicks go to it
   */
  add(parts, activate = true) {
    return this.addAll([parts], activate)[0];
  }

  /** Several at once, as one thing to undo. */
  addAll(list, activate = false) {
    const added = list.map((parts) => {
      const id = ++this.#number;
      return { colour: COLOURS[(id - 1) % COLOURS.length], hidden: false, ...parts, id };
    });
    const active = activate ? added.at(-1).id : this.state.active;
    this.#commit({ objects: [...this.list, ...added], active }, 'add');
    return added;
  }

  /** @param {number} id @param {Partial<SegmentedObject>} fields @param {string} what */
  update(id, fields, what = 'change') {
    const objects = this.list.map((object) => (object.id === id ? { ...object, ...fields } : object));
    this.#commit({ ...this.state, objects }, what);
  }

  remove(id) {
    const objects = this.list.filter((object) => object.id !== id);
    this.#commit({ objects, active: this.state.active === id ? null : this.state.active }, 'remove');
  }

  removeAll() {
    if (this.list.length > 0) this.#commit({ objects: [], active: null }, 'remove');
  }

  /** Which object the next clicks go to; none means a new one. This is a choice, not work: undo passes over it. */
  select(id) {
    if (this.state.active === id) return;
    this.state = { ...this.state, active: id };
    this.#changed('select');
  }

  undo() {
    this.#travel(this.#past, this.#future, 'undo');
  }

  redo() {
    this.#travel(this.#future, this.#past, 'redo');
  }

  #travel(from, to, what) {
    const entry = from.pop();
    if (!entry) return;
    to.push({ state: this.state });
    this.state = entry.state;
    this.#changed(what);
  }

  #commit(state, what) {
    this.#past.push({ state: this.state });
    if (this.#past.length > LONGEST_HISTORY) this.#past.shift();
    this.#future = [];
    this.state = state;
    this.#changed(what);
  }

  #changed(what) {
    this.dispatchEvent(new CustomEvent('change', { detail: what }));
  }
}
