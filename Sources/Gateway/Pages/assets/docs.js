/**
 * Draws the OpenAPI document that the gateway serves: what can be asked, and what is answered.
 */

const METHODS = ['get', 'post', 'put', 'delete', 'patch'];

/**
 * An element with attributes and children.
 * @param {string} name
 * @param {Record<string, string>} attributes
 * @param {...(Node | string)} children
 */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A schema in one line, with links to the objects that it names. */
function shape(schema) {
  if (!schema) return '';
  if (schema.$ref) {
    const name = schema.$ref.split('/').pop();
    return make('a', { href: `#schema-${name}` }, name);
  }
  if (schema.oneOf) {
    const parts = schema.oneOf.flatMap((part, index) => (index ? [' or ', shape(part)] : [shape(part)]));
    return make('span', {}, ...parts);
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (schema.type === 'array') return make('span', {}, 'list of ', shape(schema.items) || 'values');
  if (schema.type === 'object' && schema.properties) {
    const parts = Object.entries(schema.properties).flatMap(([name, part], index) =>
      [index ? ', ' : '', make('code', {}, name), ': ', shape(part)]);
    return make('span', {}, '{ ', ...parts, ' }');
  }
  if (schema.format === 'binary') return 'bytes';
  return [schema.type].flat().filter(Boolean).join(' or ') || 'any JSON';
}

/** Rows of a name and what is said of it. */
function table(rows) {
  return make('table', {}, make('tbody', {}, ...rows.map(([name, ...said]) =>
    make('tr', {}, make('th', { scope: 'row' }, name), make('td', {}, ...said)))));
}

function properties(schema) {
  return table(Object.entries(schema.properties ?? {}).map(([name, part]) => {
    const isNeeded = schema.required?.includes(name);
    return [make('code', {}, name), shape(part), part.description ? ` — ${part.description}` : '', isNeeded ? '' : ' (may be left out)'];
  }));
}

function operation(path, method, item, operationItem, responses) {
  const inside = make('div', { class: 'inside' });
  if (operationItem.description) inside.append(make('p', {}, operationItem.description));
  const parameters = [...(item.parameters ?? []), ...(operationItem.parameters ?? [])];
  if (parameters.length) {
    inside.append(make('h3', {}, 'Parameters'), table(parameters.map((parameter) => [
      make('code', {}, parameter.name), `${parameter.in}, `, shape(parameter.schema),
      parameter.description ? ` — ${parameter.description}` : ''])));
  }
  if (operationItem.requestBody) {
    inside.append(make('h3', {}, 'Body'), table(Object.entries(operationItem.requestBody.content).map(([type, content]) =>
      [make('code', {}, type), shape(content.schema)])));
  }
  inside.append(make('h3', {}, 'Answers'), table(Object.entries(operationItem.responses).map(([status, said]) => {
    const response = said.$ref ? responses[said.$ref.split('/').pop()] : said;
    const types = Object.entries(response.content ?? {}).filter(([type]) => type !== 'application/problem+json');
    return [make('code', {}, status), response.description, ' ', ...types.flatMap(([type, content]) =>
      [make('code', {}, type), ' ', shape(content.schema), ' '])];
  })));
  return make('details', { class: 'operation', id: operationItem.operationId },
    make('summary', {}, make('span', { class: 'method' }, method.toUpperCase()), make('span', { class: 'path' }, path),
      make('span', { class: 'said' }, operationItem.summary ?? '')), inside);
}

/** @param {any} document_ */
function draw(document_) {
  const operations = document.querySelector('#operations');
  document.querySelector('#description').textContent = document_.info.description;
  const links = [];
  for (const tag of document_.tags) {
    operations.append(make('h2', { id: `tag-${tag.name}` }, tag.name));
    if (tag.description) operations.append(make('p', {}, tag.description));
    links.push(make('li', {}, make('a', { href: `#tag-${tag.name}` }, tag.name)));
    for (const [path, item] of Object.entries(document_.paths)) {
      for (const method of METHODS) {
        if (item[method]?.tags.includes(tag.name)) operations.append(operation(path, method, item, item[method], document_.components.responses));
      }
    }
  }
  links.push(make('li', {}, make('a', { href: '#schemas' }, 'objects')));
  document.querySelector('#contents').append(make('ul', {}, ...links));
  const schemas = document.querySelector('#schemas');
  for (const [name, schema] of Object.entries(document_.components.schemas)) {
    schemas.append(make('details', { class: 'schema', id: `schema-${name}` },
      make('summary', {}, make('code', {}, name), make('span', { class: 'said' }, schema.description ?? '')),
      make('div', { class: 'inside' }, schema.properties ? properties(schema) : shape(schema))));
  }
}

/** Opens what the address names. */
function reveal() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
  target?.scrollIntoView();
}

const main = document.querySelector('#docs');
try {
  const response = await fetch('/openapi.json');
  draw(await response.json());
} catch (error) {
  document.querySelector('#description').textContent = `The description cannot be read: ${error}`;
}
main.setAttribute('aria-busy', 'false');
addEventListener('hashchange', reveal);
reveal();
