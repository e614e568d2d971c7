/**
 * The monitor at `/monitor`: what waits, who works, how fast, and what was given up.
 */

import { Api, Problem } from './api.js';
import { appearance, make, say } from './appearance.js';
import { Chart } from './charts.js';
import { bytes, language, number, t } from './language.js';
import { Notices } from './notices.js';

const $ = (selector) => document.querySelector(selector);

appearance();
const api = new Api();
const notices = new Notices($('#notice'), api);
let latest = null;
let mayOperate = false;

/** Milliseconds as people say them. */
function duration(value) {
  if (value == null) return '–';
  if (value < 1000) return `${number(value, { maximumFractionDigits: value < 10 ? 1 : 0 })} ms`;
  if (value < 120_000) return `${number(value / 1000, { maximumFractionDigits: 1 })} s`;
  return `${number(value / 60_000, { maximumFractionDigits: 0 })} min`;
}

const charts = {
  lanes: new Chart('queue', ['encode', 'decode'], { least: 4, unit: (value) => number(Math.round(value)) }),
  rates: new Chart('donePerSecond', ['done', 'submitted', 'encodes', 'failedRate'], { least: 2 }),
  latency: new Chart('latency', ['wait50', 'service50', 'wait99', 'service99'], { least: 10, unit: duration }),
};
$('#charts').append(...Object.values(charts).map((chart) => chart.element));

// What a second brings ------------------------------------------------------------------------------------------------

function take(queues) {
  latest = queues;
  const waiting = (role) => queues.streams.reduce((all, one) => all + (one.role === role ? one.waiting : 0), 0);
  charts.lanes.add([waiting('encode'), waiting('decode')]);
  const { rates, latency_ms: latency } = queues;
  charts.rates.add([rates?.done, rates?.submitted, rates?.encodes, rates?.failed]);
  charts.latency.add([latency?.wait?.p50, latency?.service?.p50, latency?.wait?.p99, latency?.service?.p99]);
  draw();
}

function draw() {
  if (!latest) return;
  drawFigures();
  drawLanes();
  drawWorkers();
  drawTenants();
  $('#dead-count').textContent = latest.dead > 0 ? number(latest.dead) : '';
}

function drawFigures() {
  const { streams, jobs, rates, cache, workers, dead, latency_ms: latency } = latest;
  const inWork = streams.reduce((all, one) => all + one.in_work, 0);
  const oldest = Math.max(0, ...streams.map((one) => one.oldest_ms ?? 0));
  const asked = (cache?.hits ?? 0) + (cache?.misses ?? 0);
  const one = (value) => number(value ?? 0, { maximumFractionDigits: value < 10 ? 1 : 0 });
  const many = (role) => number((workers ?? []).filter((worker) => worker.role === role).length);
  const kept = `${number(cache?.embeddings ?? 0)} ${t('embeddings')} · ${cacheSize(cache)}`;
  const filled = cache?.limit_bytes ? cache.bytes / cache.limit_bytes : null;
  const { wait, service } = latency ?? {};
  /** @type {[key: string, value: string, note: string, bad?: boolean, share?: number | null][]} */
  const figures = [
    ['open', number(jobs?.open ?? 0), `${number(inWork)} ${t('inWork')} · ${t('oldest')} ${duration(oldest)}`],
    ['donePerSecond', one(rates?.done),
      `${one(rates?.submitted)} ${t('submitted')} · ${one(rates?.failed)} ${t('failedRate')}`],
    ['latency', duration(service?.p50), `p99 ${duration(service?.p99)} · ${t('wait')} ${duration(wait?.p50)}`],
    ['workers', number(workers?.length ?? 0), `${many('encoder')} ${t('encoder')} · ${many('decoder')} ${t('decoder')}`,
      (workers ?? []).length === 0],
    ['hitRate', asked > 0 ? number(cache.hits / asked, { style: 'percent' }) : '–', kept, false, filled],
    ['dead', number(dead ?? 0), dead > 0 ? '' : t('noDead'), dead > 0],
  ];
  $('#figures').replaceChildren(...figures.map(([key, value, note, bad, share]) => {
    const figure = make('div', { class: `figure ${bad ? 'bad' : ''}` }, make('h2', { textContent: t(key) }),
      make('strong', { textContent: value }), make('span', { textContent: note }));
    if (share != null) figure.append(meter(share));
    return figure;
  }));
}

function cacheSize(cache) {
  if (!cache) return '–';
  if (!cache.limit_bytes) return bytes(cache.bytes);
  return t('ofLimit', { bytes: bytes(cache.bytes), limit: bytes(cache.limit_bytes) });
}

function meter(share) {
  const bar = make('i');
  bar.style.width = `${Math.round(100 * Math.min(1, Math.max(0, share)))}%`;
  return make('div', { class: 'meter', 'aria-hidden': 'true' }, bar);
}

function row(cells, late = false) {
  return make('tr', { class: late ? 'late' : '' }, ...cells.map((cell) => {
    const numeric = typeof cell === 'object' && 'figure' in cell;
    const content = numeric ? cell.figure : cell;
    return make('td', { class: numeric ? 'number' : '' }, content instanceof Node ? content : String(content));
  }));
}

function drawLanes() {
  $('#lanes-table').classList.toggle('no-model', !latest.streams.some((one) => one.model));
  $('#lanes').replaceChildren(...latest.streams.map((one) => row([
    `${t(one.role)} · ${t(one.lane)}`, one.model ?? '',
    { figure: number(one.waiting) }, { figure: number(one.in_work) },
    { figure: one.waiting > 0 ? duration(one.oldest_ms) : '–' },
  ])));
}

function drawWorkers() {
  const workers = latest.workers ?? [];
  $('#no-workers').hidden = workers.length > 0;
  $('#workers-table').hidden = workers.length === 0;
  $('#workers').replaceChildren(...workers.map((one) => row([
    one.name, t(one.role), one.model ?? '', one.host, { figure: number(one.threads ?? 0) },
    meter((one.load ?? 0) / (one.capacity || 1)),
    { figure: number(one.cached ?? 0) }, { figure: duration(one.age_ms) },
  ], one.age_ms > 10_000)));
}

function drawTenants() {
  const tenants = latest.tenants ?? [];
  $('#tenants-sheet').hidden = tenants.length === 0;
  $('#tenants').replaceChildren(...tenants.map((one) => row([
    one.name, { figure: number(one.jobs) }, { figure: bytes(one.bytes) }, { figure: number(one.submitted) },
    { figure: number(one.ended) }, { figure: number(one.refused) },
  ])));
}

// Dead letters --------------------------------------------------------------------------------------------------------

let shownDead = -1;

async function drawDead() {
  const { dead } = await api.json('GET', '/v1/dead');
  shownDead = dead.length;
  $('#no-dead').hidden = dead.length > 0;
  const date = new Intl.DateTimeFormat(language.code, { dateStyle: 'medium', timeStyle: 'medium' });
  $('#dead').replaceChildren(...dead.map((letter) => {
    const when = Number.isNaN(Date.parse(letter.at)) ? letter.at : date.format(new Date(letter.at));
    const note = make('small', { textContent: `${when} · ${number(letter.attempts)} ${t('attempts')}` });
    const item = make('li', {}, make('div', {}, make('strong', { textContent: letter.id }), ' ', note));
    item.append(make('p', { textContent: letter.reason }));
    if (mayOperate) item.append(make('div', { class: 'acts' }, retryButton(letter), purgeButton(letter)));
    return item;
  }));
}

const place = ({ partition, entry }) => `/v1/dead/${partition}/${encodeURIComponent(entry)}`;

function retryButton(letter) {
  const { id } = letter;
  const button = make('button', { type: 'button', textContent: t('retry'), 'aria-label': t('retryJob', { id }) });
  button.addEventListener('click', () => operate(button, 'POST', `${place(letter)}/retry`, t('saidRetried', { id })));
  return button;
}

/** What is purged does not come back: the first click asks. */
function purgeButton(letter) {
  const { id } = letter;
  const button = make('button', { type: 'button', textContent: t('purge'), 'aria-label': t('purgeJob', { id }) });
  button.addEventListener('click', () => {
    if (button.classList.contains('sure')) return operate(button, 'DELETE', place(letter), t('saidPurged', { id }));
    button.classList.add('sure');
    button.textContent = t('purgeSure');
    button.setAttribute('aria-label', `${t('purgeJob', { id })}: ${t('purgeSure')}`);
  });
  button.addEventListener('blur', () => {
    button.classList.remove('sure');
    button.textContent = t('purge');
    button.setAttribute('aria-label', t('purgeJob', { id }));
  });
  return button;
}

async function operate(button, method, path, said) {
  button.disabled = true;
  try {
    await api.json(method, path);
    say(said, true);
  } catch (error) {
    notices.failed(error);
  }
  await drawDead().catch((error) => notices.failed(error));
}

// The stream ----------------------------------------------------------------------------------------------------------

function showLink(state) {
  $('#link').dataset.state = state;
  $('#link span').textContent = t(state === 'offline' ? 'offline' : state);
}

async function watch() {
  const capabilities = await notices.patiently(() => api.capabilities());
  mayOperate = capabilities.authentication?.scopes?.includes('operate') ?? false;
  await notices.patiently(drawDead).catch((error) => error.status === 403 || notices.failed(error));
  for (;;) {
    showLink('connecting');
    try {
      await notices.patiently(async () => {
        for await (const { event, data } of api.events('/v1/events')) {
          if (event !== 'queues') continue;
          showLink('live');
          take(data);
          if (data.dead !== shownDead && !document.activeElement?.closest('#dead')) {
            shownDead = data.dead;
            drawDead().catch(() => {});
          }
        }
        // A stream ends when the gateway does.
        showLink('offline');
        throw Problem.offline();
      });
    } catch (error) {
      showLink('offline');
      return notices.failed(error, [[t('tryAgain'), () => (notices.clear(), watch())]]);
    }
  }
}

language.addEventListener('change', () => {
  showLink($('#link').dataset.state);
  for (const chart of Object.values(charts)) chart.draw();
  draw();
  drawDead().catch(() => {});
});
window.addEventListener('resize', () => Object.values(charts).forEach((chart) => chart.draw()));
for (const chart of Object.values(charts)) chart.draw();
watch().catch((error) => notices.failed(error));
