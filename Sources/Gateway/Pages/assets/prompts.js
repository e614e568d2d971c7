/**
 * From what the user did to what the gateway is asked.
 */

import { maskOf } from './objects.js';

/** Parts of a pixel that make a difference to a prompt. */
const round = (value) => Math.round(value * 10) / 10;

/**
 * The job that asks for an object's masks after one step more. The steps before are in the chosen mask of the last
 * answer, which the gateway has: it is named, and no logits are sent. All points go along, as the published predictor
 * has it.
 *
 * @param {string} sha256 of the picture
 * @param {import('./objects.js').SegmentedObject | undefined} object
 * @param {import('./objects.js').Step} step
 * @param {{model?: string, prior?: boolean, refine?: boolean, closer?: boolean}} options `refine` has the gateway keep
 *   the answer's logits, so that the next step can name its masks; what is only looked at needs none, nor the part of the
 *   picture around it, which has to be encoded for itself
 */
export function jobFor(sha256, object, step, { model, prior = true, refine = false, closer = true } = {}) {
  const steps = [...(object?.steps ?? []), step];
  const points = steps.filter((one) => one.type === 'point');
  const box = steps.findLast((one) => one.type === 'box');
  const text = steps.find((one) => one.type === 'text');
  /** @type {Record<string, any>} */
  const prompt = {};
  if (points.length > 0) {
    prompt.points = points.map(({ x, y }) => [round(x), round(y)]);
    prompt.labels = points.map(({ label }) => label);
  }
  if (box) prompt.box = box.box.map(round);
  if (step.type === 'text') prompt.text = text.text;
  const answer = object?.answer;
  const isCloser = steps.some((one) => one.type === 'closer');
  if (prior && !isCloser && answer?.id && step.type === 'point' && (!model || !answer.model || answer.model === model)) {
    prompt.mask = { job: answer.id, index: answer.masks.indexOf(maskOf(object)) };
  }
  // One click may mean a thing, a part of it, or what it belongs to; more than that is clear.
  const multimask = steps.length === 1 && step.type === 'point';
  const job = { image: { sha256 }, prompts: [prompt], multimask, lane: 'interactive', output: 'rle' };
  if (step.type === 'text') job.instances = 'all';
  if (isCloser && closer) job.tile = 'auto';
  else if (refine) job.refine = true;
  if (model) job.model = model;
  return job;
}
