/**
 * A picture with its objects as a link. What stands behind the # never reaches a server's log: the picture's SHA-256,
 * and what the user did to each object, deflated. Whoever opens it has the masks made anew.
 */

const VERSION = '1';

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/** @param {import('./objects.js').Step} step */
function pack(step) {
  const one = (value) => Math.round(value * 10) / 10;
  switch (step.type) {
    case 'point': return [step.label ? 'p' : 'n', one(step.x), one(step.y), step.reading ?? 0];
    case 'box': return ['b', ...step.box.map(one), step.reading ?? 0];
    case 'closer': return ['c', step.reading ?? 0];
    case 'text': return ['t', step.text, step.reading ?? 0];
    default: return ['e', step.reading ?? 0];
  }
}

function unpack(list) {
  const [kind, ...rest] = list;
  const numbers = rest.filter((value) => Number.isFinite(value));
  const reading = Number.isInteger(rest.at(-1)) ? rest.at(-1) : 0;
  if ((kind === 'p' || kind === 'n') && numbers.length === 3) {
    return { type: 'point', x: rest[0], y: rest[1], label: kind === 'p' ? 1 : 0, reading };
  }
  if (kind === 'b' && numbers.length === 5) return { type: 'box', box: rest.slice(0, 4), reading };
  if (kind === 't' && typeof rest[0] === 'string') return { type: 'text', text: rest[0].slice(0, 300), reading };
  if (kind === 'c') return { type: 'closer', reading };
  if (kind === 'e') return { type: 'everything', reading };
  throw new Error('This step is not known.');
}

/**
 * @param {string} sha256 @param {import('./objects.js').SegmentedObject[]} objects
 * @returns {Promise<string>} the fragment, with its #
 */
export async function toFragment(sha256, objects) {
  const value = objects.map(({ name, colour, hidden, steps }) => [name, colour, hidden ? 1 : 0, steps.map(pack)]);
  const text = new TextEncoder().encode(JSON.stringify(value));
  const deflated = await through(text, new CompressionStream('deflate-raw'));
  let characters = '';
  for (const byte of deflated) characters += String.fromCharCode(byte);
  const data = btoa(characters).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
  return `#${VERSION}.${sha256}.${data}`;
}

/**
 * @param {string} fragment
 * @returns {Promise<{sha256: string,
 *   objects: {name: string, colour: string, hidden: boolean, steps: object[]}[]} | null>}
 *   null where there is no link; a link that cannot be read throws
 */
export async function fromFragment(fragment) {
  if (fragment.length < 2) return null;
  const [, sha256, data] = /^#1\.([0-9a-f]{64})\.([\w-]*)$/.exec(fragment) ?? [];
  if (!sha256) throw new Error('This is no link to a picture.');
  const bytes = Uint8Array.from(atob(data.replaceAll('-', '+').replaceAll('_', '/')), (one) => one.charCodeAt(0));
  const text = new TextDecoder().decode(await through(bytes, new DecompressionStream('deflate-raw')));
  const objects = JSON.parse(text).slice(0, 500).map(([name, colour, hidden, steps]) => ({
    name: String(name).slice(0, 80),
    colour: /^#[0-9a-f]{6}$/i.test(colour) ? colour : '#e2492f',
    hidden: Boolean(hidden),
    steps: steps.slice(0, 200).map(unpack),
  }));
  return { sha256, objects };
}
