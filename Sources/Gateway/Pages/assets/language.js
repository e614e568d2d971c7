/**
 * The language of the page: the browser's own unless chosen, and every text of the page in it.
 */

import { texts } from './texts.js';

export const LANGUAGES = [['en', 'English'], ['de', 'Deutsch'], ['ja', '日本語']];
const KEY = 'kirie-language';

const known = (code) => LANGUAGES.findIndex(([name]) => name === code);

function preferred() {
  const chosen = localStorage.getItem(KEY);
  if (known(chosen) >= 0) return chosen;
  for (const language of navigator.languages ?? [navigator.language]) {
    const code = language.slice(0, 2).toLowerCase();
    if (known(code) >= 0) return code;
  }
  return 'en';
}

let current = preferred();

/** Says `change` when another language was chosen. */
export const language = new (class extends EventTarget {
  get code() {
    return current;
  }

  /** @param {string} code @param {boolean} remember */
  choose(code, remember = true) {
    if (known(code) < 0) return;
    current = code;
    if (remember) localStorage.setItem(KEY, code);
    apply(document);
    this.dispatchEvent(new Event('change'));
  }
})();

/** @param {string} key of the table @param {Record<string, string | number>=} values for its braces */
export function t(key, values = {}) {
  const text = texts[key]?.[known(current)] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/** @param {number} value @param {Intl.NumberFormatOptions=} options */
export function number(value, options) {
  return new Intl.NumberFormat(current, options).format(value);
}

/** @param {number} value bytes */
export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let size = value;
  for (; size >= 999.5 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${number(size, { maximumFractionDigits: size < 10 && unit > 0 ? 1 : 0 })} ${units[unit]}`;
}

/**
 * Puts the texts where the markup asks for them: `data-text` the content, `data-label` the accessible name and tooltip,
 * `data-placeholder` the placeholder.
 * @param {ParentNode} root
 */
export function apply(root) {
  document.documentElement.lang = current;
  for (const element of root.querySelectorAll('[data-text]')) {
    element.textContent = t(element.dataset.text, element.dataset);
  }
  for (const element of root.querySelectorAll('[data-label]')) {
    const label = t(element.dataset.label, element.dataset);
    element.setAttribute('aria-label', label);
    if (!element.matches('section, aside, canvas, [role=toolbar], select, input, ul')) {
      element.title = element.dataset.key ? `${label} (${element.dataset.key})` : label;
    }
  }
  for (const element of root.querySelectorAll('[data-placeholder]')) {
    element.placeholder = t(element.dataset.placeholder);
  }
}
