// What is in the lake, what has just come, and a box for questions. Texts only ever become text nodes.
'use strict';

const SHOWN_ROWS_MAX = 500;
const NEWEST_EVERY_MS = 2000;
const DOMAINS_EVERY_MS = 30000;
const EXAMPLES = [
  ['The tables', 'SHOW TABLES'],
  ['Where the vehicles are', 'SELECT DISTINCT ON (tenant, device) tenant, device, time, latitude, longitude, speed_kmh\nFROM fleet\nORDER BY tenant, device, time DESC'],
  ['Power by hour', "SELECT date_bin(INTERVAL '1 hour', time) AS hour, tenant, avg(active_power_w) AS mean_w, max(active_power_w) AS peak_w\nFROM energy\nGROUP BY 1, 2\nORDER BY 1 DESC, 2\nLIMIT 48"],
  ['Fullest car parks', 'SELECT tenant, device, max(occupied_spaces) AS most, max(total_spaces) AS spaces\nFROM parking\nGROUP BY tenant, device\nORDER BY most DESC\nLIMIT 20'],
  ['What was refused, and why', 'SELECT reason, count(*) AS letters, max(received_at) AS last\nFROM dead_letters\nGROUP BY reason\nORDER BY letters DESC'],
];

const at = id => document.getElementById(id);
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 6 });

function made(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function shown(value) {
  if (value === null) return '—';
  if (typeof value === 'number') return number.format(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

function table(answer) {
  const isNumber = answer.columns.map(column => /int|double|real|numeric/.test(column.type));
  const head = made('tr');
  answer.columns.forEach((column, index) => {
    const cell = made('th', column.name, isNumber[index] ? 'number' : '');
    cell.scope = 'col';
    cell.append(made('small', column.type));
    head.append(cell);
  });
  const body = made('tbody');
  for (const row of answer.rows.slice(0, SHOWN_ROWS_MAX)) {
    const line = made('tr');
    row.forEach((value, index) => line.append(made('td', shown(value), isNumber[index] ? 'number' : '')));
    body.append(line);
  }
  const all = made('table');
  const top = made('thead');
  top.append(head);
  all.append(top, body);
  return all;
}

async function fetched(path, options) {
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) {
    const place = answer.line ? ` (line ${answer.line}, column ${answer.column})` : '';
    throw new Error(`${answer.title}${place}\n${answer.detail}`);
  }
  return answer;
}

const asked = sql => fetched('/api/v1/sql', {
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify({ sql }),
});

async function run() {
  const started = performance.now();
  at('run').disabled = true;
  at('problem').hidden = true;
  at('took').textContent = 'asking …';
  try {
    const answer = await asked(at('question').value);
    const took = Math.round(performance.now() - started);
    const cut = answer.rows.length > SHOWN_ROWS_MAX ? `, the first ${SHOWN_ROWS_MAX} shown` : '';
    at('took').textContent = `${number.format(answer.rows.length)} rows in ${number.format(took)} ms${cut}`;
    at('answer').replaceChildren(table(answer));
  } catch (error) {
    at('took').textContent = '';
    at('answer').replaceChildren();
    at('problem').textContent = error.message;
    at('problem').hidden = false;
  }
  at('run').disabled = false;
}

function tile(domain) {
  const box = made('div', undefined, 'tile');
  box.append(made('h3', domain.name), made('p', domain.doc, 'muted'));
  if (domain.rows === 0) {
    box.append(made('p', 'nothing received yet'));
    return box;
  }
  const last = new Date(domain.to);
  box.append(
    made('p', `${number.format(domain.rows)} readings`, 'number'),
    made('p', `of ${domain.tenants.length} tenants: ${domain.tenants.slice(0, 6).join(', ')}${domain.tenants.length > 6 ? ' …' : ''}`),
    made('p', `${new Date(domain.from).toLocaleString()} to ${last.toLocaleString()}`, 'muted'),
  );
  return box;
}

function state(isUp, word) {
  const line = at('state');
  line.className = isUp ? 'up' : 'down';
  line.querySelector('.mark').textContent = isUp ? '●' : '✕';
  line.querySelector('.word').textContent = word;
}

async function domains() {
  const { domains } = await fetched('/api/v1/domains');
  at('domains').replaceChildren(...domains.map(tile));
  if (domains.length === 0) at('domains').append(made('p', 'No domain yet: start an ingest on this lake.'));
  const chosen = at('domain').value || (domains.find(domain => domain.rows > 0) || {}).name;
  at('domain').replaceChildren(...domains.map(domain => new Option(domain.name, domain.name)));
  if (chosen) at('domain').value = chosen;
}

async function newest() {
  const name = at('domain').value;
  if (!name) return;
  const quoted = `"${name.replaceAll('"', '""')}"`;
  // The last two days by the devices' clocks: most files are never opened.
  let answer = await asked(`SELECT * FROM ${quoted} WHERE time > now() - INTERVAL '2 days' ORDER BY received_at DESC, time DESC LIMIT 12`);
  if (answer.rows.length === 0) answer = await asked(`SELECT * FROM ${quoted} ORDER BY time DESC LIMIT 12`);
  at('newest').replaceChildren(answer.rows.length ? table(answer) : made('p', 'Nothing received yet.', 'muted'));
}

// One request at a time, and none while nobody looks.
async function again(work, pause) {
  if (!document.hidden) {
    try {
      await work();
      state(true, `answering, ${new Date().toLocaleTimeString()}`);
    } catch (error) {
      state(false, error.message.split('\n')[0]);
    }
  }
  setTimeout(again, pause, work, pause);
}

for (const [name, sql] of EXAMPLES) {
  const button = made('button', name, 'example');
  button.type = 'button';
  button.addEventListener('click', () => { at('question').value = sql; run(); });
  at('examples').append(button);
}
at('question').value = EXAMPLES[1][1];
at('run').addEventListener('click', run);
at('question').addEventListener('keydown', event => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
});
at('domain').addEventListener('change', () => newest().catch(() => {}));
again(domains, DOMAINS_EVERY_MS).then(() => again(newest, NEWEST_EVERY_MS));
