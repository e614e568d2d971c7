/**
 * What both pages have at their top: the language's menu, light and dark, and making elements and icons.
 */

import { LANGUAGES, apply, language, t } from './language.js';

const KEY = 'kirie-theme';
const THEMES = ['auto', 'light', 'dark'];

/**
 * @param {string} tag @param {Record<string, any>} properties properties, `class`, `dataset`, and `aria-…` attributes
 * @param {...(Node | string)} children
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === 'class') element.className = value;
    else if (name === 'dataset') Object.assign(element.dataset, value);
    else if (name.includes('-') || name === 'role') element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

/** @param {string} name of a symbol in icons.svg */
export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', `/assets/icons.svg#${name}`);
  svg.append(use);
  svg.classList.add('icon');
  svg.setAttribute('aria-hidden', 'true');
  return svg;
}

/** @param {string} label accessible name and tooltip @param {string} name of the icon @param {() => void} action */
export function iconButton(label, name, action, properties = {}) {
  const named = { type: 'button', class: 'icon-button', title: label, 'aria-label': label };
  const button = make('button', { ...named, ...properties });
  button.append(icon(name));
  button.addEventListener('click', action);
  return button;
}

/** Sets up the menus in the header, and every text. Gives back what is to be told when the colours change. */
export function appearance() {
  const changed = new EventTarget();
  const select = document.querySelector('#language');
  for (const [code, name] of LANGUAGES) select.append(make('option', { value: code, textContent: name, lang: code }));
  select.value = language.code;
  select.addEventListener('change', () => language.choose(select.value));

  const button = document.querySelector('#theme');
  const stored = localStorage.getItem(KEY);
  let theme = THEMES.includes(stored) ? stored : 'auto';
  const show = () => {
    document.documentElement.dataset.theme = theme;
    const label = `${t('theme')}: ${t(`theme${theme[0].toUpperCase()}${theme.slice(1)}`)}`;
    button.title = label;
    button.setAttribute('aria-label', label);
    button.replaceChildren(icon(`theme-${theme}`));
    changed.dispatchEvent(new Event('change'));
  };
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    localStorage.setItem(KEY, theme);
    show();
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', show);
  language.addEventListener('change', show);
  apply(document);
  show();
  return changed;
}

/** Says something to screen readers, and where `seen` is true shows it for a moment. */
export function say(text, seen = false) {
  const spoken = document.querySelector('#spoken');
  spoken.textContent = '';
  // The region must be seen to change, also when the same is said twice.
  requestAnimationFrame(() => (spoken.textContent = text));
  if (!seen) return;
  const toast = document.querySelector('#toast');
  toast.textContent = text;
  toast.classList.add('shown');
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove('shown'), 2600);
}
