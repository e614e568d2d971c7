/**
 * The page at `/`: puts the parts together.
 */

import { Api } from './api.js';
import { appearance, make, say } from './appearance.js';
import { chosen, coco, cutout, fileName, mask, save } from './exports.js';
import { Gestures } from './gestures.js';
import { keyboard } from './keys.js';
import { language, t } from './language.js';
import { Notices } from './notices.js';
import { Objects } from './objects.js';
import { Panel } from './panel.js';
import { pictureIn } from './picture.js';
import { Segmenter } from './segmenter.js';
import { Session } from './session.js';
import { fromFragment, toFragment } from './share.js';
import { Stage } from './stage.js';
import { View } from './view.js';

const $ = (selector) => document.querySelector(selector);

const colours = appearance();
const api = new Api();
const view = new View();
const objects = new Objects();
const stage = new Stage($('#stage'), view, objects);
const notices = new Notices($('#notice'), api);
const session = new Session({ api, segmenter: new Segmenter(api), objects, stage, notices });
const panel = new Panel($('#panel'), session, objects);

// What hands do on the stage ------------------------------------------------------------------------------------------

const hand = {
  tool: 'add',
  hover: (x, y, label, since) => (hand.tool === 'box' ? session.leave() : session.hover(x, y, label, since)),
  leave: () => session.leave(),
  click: (x, y, label) => session.take({ type: 'point', x, y, label }),
  boxing: (box) => {
    stage.box = box;
    stage.invalidate('live');
  },
  box: (box) => session.take({ type: 'box', box }),
};
new Gestures($('#stage'), view, hand);

// Actions of buttons and keys -----------------------------------------------------------------------------------------

const actions = {
  tool(name) {
    hand.tool = name;
    session.leave();
    for (const button of document.querySelectorAll('button[data-tool]')) {
      button.setAttribute('aria-pressed', String(button.dataset.tool === name));
    }
    $('#stage').dataset.tool = name;
    say(t(`${name}Hint`));
  },
  undo() {
    if (!objects.canUndo) return;
    session.leave();
    objects.undo();
    say(t('saidUndo'));
  },
  redo() {
    if (!objects.canRedo) return;
    session.leave();
    objects.redo();
    say(t('saidRedo'));
  },
  next() {
    session.leave();
    objects.select(null);
    say(t('saidNew'));
  },
  pieces() {
    stage.pieces = !stage.pieces;
    $('#pieces').setAttribute('aria-pressed', String(stage.pieces));
    stage.invalidate('picture', 'masks');
  },
  help: () => $('#help').showModal(),
  async cutout() {
    const list = chosen(objects);
    if (list.length > 0) await saved(cutout(session.picture, list), fileName(session.picture, list, 'cutout.png'));
  },
  async mask() {
    const list = chosen(objects);
    if (list.length > 0) await saved(mask(session.picture, list), fileName(session.picture, list, 'mask.png'));
  },
  async coco() {
    if (objects.list.length === 0) return;
    const text = JSON.stringify(coco(session.picture, objects.list), null, 1);
    await saved(new Blob([text], { type: 'application/json' }), fileName(session.picture, [], 'coco.json'));
  },
  async copy() {
    const list = chosen(objects);
    if (list.length === 0) return;
    try {
      await navigator.clipboard.write([new ClipboardItem({ 'image/png': cutout(session.picture, list) })]);
      say(t('saidCopied'), true);
    } catch {
      say(t('clipboardFailed'), true);
    }
  },
  async link() {
    if (!session.sha256) return;
    const fragment = await toFragment(session.sha256, objects.list);
    history.replaceState(null, '', fragment);
    try {
      await navigator.clipboard.writeText(location.href);
      say(t('saidLink'), true);
    } catch {
      // Without a clipboard the link stands in the address bar.
      say(location.href.slice(0, 60), true);
    }
  },
  zoomIn: () => view.zoom(1.3),
  zoomOut: () => view.zoom(1 / 1.3),
  fit: () => view.fit(),
  choose: () => $('#file').click(),
  camera: () => $('#capture').click(),
  everything: () => session.everything(),
  sheet() {
    const open = $('#panel').classList.toggle('open');
    $('[data-action=sheet]').setAttribute('aria-expanded', String(open));
  },
};

async function saved(making, name) {
  save(await making, name);
  say(t('saidSaved', { name }), true);
}

for (const button of document.querySelectorAll('[data-action]')) {
  button.addEventListener('click', () => actions[button.dataset.action]());
}
for (const button of document.querySelectorAll('button[data-tool]')) {
  button.addEventListener('click', () => actions.tool(button.dataset.tool));
}
$('#opacity').addEventListener('input', (event) => {
  stage.opacity = event.target.value / 100;
  stage.invalidate('masks');
});
$('#find').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = $('#find input').value.trim();
  if (text) session.find(text);
});
$('#model').addEventListener('change', (event) => session.chooseModel(event.target.value));
for (const dialog of document.querySelectorAll('dialog')) {
  // A click beside it closes it.
  dialog.addEventListener('click', (event) => event.target === dialog && dialog.close());
}
keyboard({ stage, view, session, objects, panel, actions, hand });

// Pictures come in ----------------------------------------------------------------------------------------------------

function open(file) {
  if (!file) return;
  if (location.hash && !session.awaited) history.replaceState(null, '', location.pathname);
  session.open(file, file.name || 'picture.png');
}

for (const input of [$('#file'), $('#capture')]) {
  input.addEventListener('change', () => {
    open(input.files[0]);
    input.value = '';
  });
}
window.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('dragging');
});
window.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) document.body.classList.remove('dragging');
});
window.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('dragging');
  open(pictureIn(event.dataTransfer));
});
window.addEventListener('paste', (event) => {
  const file = pictureIn(event.clipboardData);
  if (file) open(file);
});

async function openSample({ name, url }) {
  try {
    const response = await notices.patiently(() => api.request('GET', url));
    open(new File([await response.blob()], url.split('/').at(-1) || name));
  } catch (error) {
    notices.failed(error);
  }
}

// What is shown when --------------------------------------------------------------------------------------------------

function drawState() {
  const { picture, ready } = session;
  document.body.classList.toggle('with-picture', Boolean(picture));
  document.body.classList.toggle('waiting', Boolean(picture) && !ready);
  $('#undo').disabled = !objects.canUndo;
  $('#redo').disabled = !objects.canRedo;
  const some = chosen(objects).length > 0;
  for (const name of ['cutout', 'mask', 'copy']) $(`[data-action=${name}]`).disabled = !some;
  $('[data-action=coco]').disabled = objects.list.length === 0;
  $('[data-action=link]').disabled = !session.sha256;
  for (const element of document.querySelectorAll('.needs-ready')) element.disabled = !ready;
  $('#next').hidden = !objects.active;
  $('#count').textContent = String(objects.list.length);
  $('#count').hidden = objects.list.length === 0;
}
objects.addEventListener('change', drawState);
session.addEventListener('state', drawState);
session.addEventListener('open', () => {
  drawState();
  $('#stage').focus({ preventScroll: true });
});
view.addEventListener('change', () => {
  $('#percent').textContent = `${view.percent} %`;
  // Where the picture lies, for whoever drives the page from outside.
  $('#stage').dataset.view = `${view.scale} ${view.x} ${view.y}`;
});
colours.addEventListener('change', () => stage.invalidate('picture', 'live'));
language.addEventListener('change', () => {
  panel.draw();
  drawSamples();
  drawPaste();
});

// From the pointer's move to the drawn mask, for whoever measures it.
let measured = 0;
session.addEventListener('hovered', ({ detail }) => {
  if (++measured % 200 === 0) performance.clearMeasures('kirie-hover');
  const { x, y, since } = detail;
  performance.measure('kirie-hover', { start: since, end: performance.now(), detail: { x, y } });
});

// What this gateway offers --------------------------------------------------------------------------------------------

function drawSamples() {
  $('#samples').replaceChildren(...(session.capabilities?.samples ?? []).map((sample) => {
    const title = t(`sample.${sample.name}`) === `sample.${sample.name}` ? sample.title : t(`sample.${sample.name}`);
    const { url, width, height } = sample;
    const image = make('img', { src: url, alt: '', width, height, loading: 'lazy' });
    const button = make('button', { type: 'button', class: 'sample' }, image, make('span', { textContent: title }));
    button.addEventListener('click', () => openSample(sample));
    return make('li', {}, button);
  }));
  $('#samples').parentElement.hidden = $('#samples').children.length === 0;
}

function drawPaste() {
  $('#paste').textContent = t('orPaste', { key: /Mac/.test(navigator.platform) ? '⌘ V' : 'Ctrl V' });
}

async function begin() {
  drawPaste();
  drawState();
  panel.draw();
  try {
    session.capabilities = await notices.patiently(() => api.capabilities());
  } catch (error) {
    return notices.failed(error, [[t('tryAgain'), () => (notices.clear(), begin())]]);
  }
  const { models = [], prompts = [], everything } = session.capabilities;
  drawSamples();
  $('#model').replaceChildren(...models.map(({ name }) => make('option', { value: name, textContent: name })));
  $('#model').parentElement.hidden = models.length < 2;
  const first = models.find((model) => model.default) ?? models[0];
  if (first) $('#model').value = first.name;
  if (models.length > 1) session.model = first.name;
  $('#find').hidden = !prompts.includes('text');
  $('#everything').hidden = !everything;
  $('#offers').hidden = $('#find').hidden && $('#everything').hidden;
  try {
    const link = await fromFragment(location.hash);
    if (link) await session.openLink(link);
  } catch {
    const actions = [[t('dismiss'), () => notices.clear()]];
    notices.show('failed', t('badLink'), t('badLinkDetail'), { actions, urgent: true });
  }
}

window.addEventListener('hashchange', () => location.reload());
if (matchMedia('(hover: none)').matches) document.body.classList.add('touch');
begin();
