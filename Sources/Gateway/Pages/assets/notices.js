/**
 * The slip of paper that says what is going on when the picture is not ready, or something is in the way, and what can
 * be done about it. One at a time.
 */

import { Problem } from './api.js';
import { icon, make, say } from './appearance.js';
import { t } from './language.js';

/** Notices that a countdown has shown. */
const WAITING = new Set(['full', 'no-worker', 'offline']);

const ICONS = { failed: 'alert', full: 'hourglass', 'no-worker': 'sleep', offline: 'offline', gone: 'alert' };

export class Notices {
  /** @param {HTMLElement} element @param {import('./api.js').Api} api */
  constructor(element, api) {
    this.element = element;
    this.api = api;
    this.keyDialog = document.querySelector('#key');
  }

  /**
   * @param {string} kind for the style and for tests @param {string} title @param {string=} detail
   * @param {{progress?: number | null, actions?: [string, () => void][], urgent?: boolean}} options
   *   `progress` 0…1, or null where it is not known
   */
  show(kind, title, detail = '', { progress, actions = [], urgent = false } = {}) {
    const same = this.element.dataset.kind === kind && !this.element.hidden;
    const focused = same && document.activeElement?.closest('#notice button');
    this.element.dataset.kind = kind;
    this.element.hidden = false;
    const text = make('div', { class: 'notice-text' }, make('strong', { textContent: title }));
    if (detail) text.append(make('p', { textContent: detail }));
    const parts = [icon(ICONS[kind] ?? 'paper'), text];
    if (progress !== undefined) {
      const bar = make('progress', { max: 1, 'aria-label': title });
      if (progress !== null) bar.value = progress;
      parts.push(bar);
    }
    if (actions.length > 0) {
      const row = make('div', { class: 'notice-actions' });
      for (const [label, action] of actions) {
        const button = make('button', { type: 'button', textContent: label });
        button.addEventListener('click', action);
        row.append(button);
      }
      parts.push(row);
    }
    this.element.replaceChildren(...parts);
    if (focused) this.element.querySelector('button')?.focus();
    if (!same) say(detail && urgent ? `${title}. ${detail}` : title);
  }

  /** Changes the bar of the notice that is there, or what it says. */
  progress(fraction) {
    const bar = this.element.querySelector('progress');
    if (bar) bar.value = fraction;
  }

  clear() {
    this.element.hidden = true;
    delete this.element.dataset.kind;
    this.element.replaceChildren();
  }

  /** Something went wrong for good. @param {Error} error @param {[string, () => void][]=} actions */
  failed(error, actions) {
    const close = [t('dismiss'), () => this.clear()];
    this.show('failed', t('failed'), error.message, { actions: actions ? [...actions, close] : [close], urgent: true });
  }

  /**
   * Waits until it is worth trying again, counting down; comes back early when the network is back or the user asks.
   * The notice stays while it is tried, so that nothing flickers where nothing has changed.
   * @param {Problem} problem @param {number} attempts that have gone wrong so far @param {AbortSignal=} signal
   */
  countdown(problem, attempts, signal) {
    const [kind, title, detail] = reasonOf(problem);
    // As long as the gateway says, and longer the longer it lasts.
    let left = Math.ceil(Math.max(problem.retryAfter ?? 5, Math.min(15, 1.5 ** attempts)));
    return new Promise((resolve, reject) => {
      const end = (settle, value) => {
        clearInterval(timer);
        window.removeEventListener('online', now);
        signal?.removeEventListener('abort', stop);
        settle(value);
      };
      const now = () => end(resolve);
      const stop = () => end(reject, signal.reason);
      const draw = () => {
        const words = `${detail} ${t('againIn', { n: left })}`;
        this.show(kind, title, words, { actions: [[t('tryNow'), now]], urgent: true });
      };
      const timer = setInterval(() => {
        left -= 1;
        if (left <= 0) return now();
        // Only the number changes: focus stays on the button, and screen readers are not told each second.
        const text = this.element.querySelector('p');
        if (text) text.textContent = `${detail} ${t('againIn', { n: left })}`;
      }, 1000);
      window.addEventListener('online', now);
      signal?.addEventListener('abort', stop);
      draw();
    });
  }

  /** Asks for an API key. @param {boolean} wrong whether one was refused @returns {Promise<boolean>} */
  askForKey(wrong) {
    const dialog = this.keyDialog;
    const input = dialog.querySelector('input');
    dialog.querySelector('.wrong').hidden = !wrong;
    input.value = '';
    dialog.returnValue = '';
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener('close', () => {
        const given = dialog.returnValue === 'use' && input.value.trim() !== '';
        if (given) this.api.setKey(input.value.trim());
        resolve(given);
      }, { once: true });
    });
  }

  /**
   * Does something that may have to wait: asks for a key where one is needed, waits and tries again where the gateway
   * says so or cannot be reached. Other problems are thrown.
   * @template T @param {() => Promise<T>} task @param {AbortSignal=} signal @returns {Promise<T>}
   */
  async patiently(task, signal) {
    let asked = false;
    for (let attempts = 0; ; attempts += 1) {
      try {
        const answer = await task();
        if (WAITING.has(this.element.dataset.kind)) this.clear();
        return answer;
      } catch (error) {
        if (!(error instanceof Problem) || signal?.aborted) throw error;
        if (error.code === 'unauthorized' || error.status === 401) {
          if (!(await this.askForKey(asked))) throw error;
          asked = true;
        } else if (error.passes) {
          await this.countdown(error, attempts, signal);
        } else {
          throw error;
        }
      }
    }
  }
}

/** @param {Problem} problem @returns {[kind: string, title: string, detail: string]} */
function reasonOf(problem) {
  if (problem.code === 'offline' || problem.status === 502 || problem.status === 504) {
    return ['offline', t('offline'), t('offlineDetail')];
  }
  if (problem.code === 'no-worker') return ['no-worker', t('noWorker'), t('noWorkerDetail')];
  if (problem.code === 'rate-limited' || problem.code === 'quota') return ['full', t('rateLimited'), problem.message];
  if (problem.code === 'backpressure') return ['full', t('full'), t('fullDetail')];
  return ['full', problem.status === 429 ? t('full') : t('failed'), problem.message];
}
