/**
 * The keyboard: everything that the pointer does. Single letters count only where nobody is typing.
 */

import { say } from './appearance.js';
import { t } from './language.js';

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** @param {{stage, view, session, objects, panel, actions: Record<string, Function>, hand}} page */
export function keyboard({ stage, view, session, objects, panel, actions, hand }) {
  /** The first corner of a box that is drawn with keys. @type {[number, number] | null} */
  let corner = null;

  const move = (dx, dy) => {
    const start = stage.crosshair ?? [view.imageWidth / 2, view.imageHeight / 2];
    const x = Math.min(Math.max(start[0] + dx, 0.5), view.imageWidth - 0.5);
    const y = Math.min(Math.max(start[1] + dy, 0.5), view.imageHeight - 0.5);
    stage.crosshair = [x, y];
    if (corner) stage.box = [...corner, x, y];
    view.reveal(x, y);
    stage.invalidate('live');
    if (hand.tool === 'add' || hand.tool === 'remove') {
      session.hover(x, y, hand.tool === 'remove' ? 0 : 1, performance.now());
    }
    say(t('saidCross', { x: Math.round(x), y: Math.round(y) }));
  };

  const enter = (label) => {
    if (!stage.crosshair) return move(0, 0);
    const [x, y] = stage.crosshair;
    if (hand.tool !== 'box') return hand.click(x, y, label);
    if (!corner) {
      corner = [x, y];
      return say(t('saidCorner'), true);
    }
    const box = [Math.min(corner[0], x), Math.min(corner[1], y), Math.max(corner[0], x), Math.max(corner[1], y)];
    corner = null;
    stage.box = null;
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) hand.box(box);
  };

  const letGo = () => {
    corner = null;
    stage.box = null;
    stage.crosshair = null;
    session.leave();
    stage.invalidate('live');
  };

  const letters = {
    a: () => actions.tool('add'),
    d: () => actions.tool('remove'),
    b: () => actions.tool('box'),
    v: () => actions.tool('pan'),
    n: () => actions.next(),
    r: () => {
      const active = objects.active;
      if (active) session.chooseReading((active.reading + 1) % active.answer.masks.length);
    },
    h: () => objects.active && objects.update(objects.active.id, { hidden: !objects.active.hidden }, 'hide'),
    p: () => actions.pieces(),
    '+': () => view.zoom(1.3),
    '=': () => view.zoom(1.3),
    '-': () => view.zoom(1 / 1.3),
    0: () => view.fit(),
    '?': () => actions.help(),
  };

  window.addEventListener('keydown', (event) => {
    if (event.defaultPrevented || document.querySelector('dialog[open]')) return;
    const typing = event.target.closest?.('input:not([type=range]):not([type=color]), textarea, select');
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (typing) return;
    if (command && !event.altKey) {
      if (key === 'z') actions[event.shiftKey ? 'redo' : 'undo']();
      else if (key === 'y') actions.redo();
      else if (key === 'c' && getSelection().isCollapsed) actions.copy();
      else return;
      return event.preventDefault();
    }
    if (!session.picture) return key === '?' && actions.help();
    const onStage = event.target === stage.element || event.target === document.body;
    if (ARROWS[key] && onStage) {
      const [dx, dy] = ARROWS[key];
      const step = event.altKey ? 1 : (event.shiftKey ? 60 : 12) / view.scale;
      move(dx * step, dy * step);
    } else if (key === 'Enter' && onStage) {
      enter((hand.tool === 'remove') !== event.altKey ? 0 : 1);
    } else if (key === 'Backspace' && onStage) {
      enter(0);
    } else if (key === 'Delete') {
      if (objects.active) {
        objects.remove(objects.active.id);
        say(t('saidRemoved'));
      }
    } else if (key === 'Escape') {
      letGo();
    } else if (/^[1-9]$/.test(key) && !event.altKey) {
      const object = objects.list[Number(key) - 1];
      if (object) panel.select(object.id);
    } else if (letters[key] && !event.altKey) {
      letters[key]();
    } else {
      return;
    }
    event.preventDefault();
  });

  // A pointer that moves takes over from the keys.
  stage.element.addEventListener('pointermove', () => {
    if (!stage.crosshair || corner) return;
    stage.crosshair = null;
    stage.invalidate('live');
  });
}
