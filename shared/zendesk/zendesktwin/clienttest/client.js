// Exercises the twin at argv[2] with node-zendesk as its users do, and prints one line per step.
const assert = require('node:assert');
const zendesk = require('node-zendesk');

const [base, token, throttled] = process.argv.slice(2);
const options = { username: 'sorrel@example.com', token, endpointUri: `${base}/api/v2` };
const client = zendesk.createClient(options);
const say = (step) => console.log(`ok ${step}`);

async function refused(promise, status) {
  try {
    await promise;
  } catch (error) {
    assert.match(error.message, status);
    return error;
  }
  assert.fail(`expected a refusal matching ${status}`);
}

async function main() {
  if (throttled) {
    // This client does not throw over the limit: it hands back an Error as the result.
    const over = await client.organizations.show(1);
    assert.equal(over.response.status, 429);
    assert.ok(over.response.headers.get('retry-after') >= 1);
    assert.ok(over.result instanceof Error);
    assert.equal(over.result.statusCode, 429);
    say('throttle');
    return;
  }
  const me = await client.users.me();
  assert.equal(me.result.email, 'sorrel@example.com');
  say('me');

  const made = await client.organizations.create({ organization: { name: 'Bólido Comidas', external_id: 'cus-1', organization_fields: { erp_city: 'Madrid' } } });
  assert.equal(made.response.status, 201);
  assert.equal(made.result.organization_fields.erp_city, 'Madrid');
  say('create');

  const again = await client.organizations.createOrUpdate({ organization: { external_id: 'cus-1', name: 'Bólido Comidas preparadas' } });
  assert.equal(again.response.status, 200);
  assert.equal(again.result.id, made.result.id);
  const other = await client.organizations.upsert({ organization: { external_id: 'cus-2', name: 'Around the Horn' } });
  assert.equal(other.response.status, 201);
  say('upsert');

  const shown = await client.organizations.show(made.result.id);
  assert.equal(shown.result.name, 'Bólido Comidas preparadas');
  const found = await client.organizations.search('cus-1');
  assert.equal(found.length, 1);
  assert.equal(found[0].id, made.result.id);
  const hits = await client.search.query('type:organization name:horn');
  assert.equal(hits.result.length, 1);
  say('query');

  const updated = await client.organizations.update(made.result.id, { organization: { organization_fields: { erp_city: null } } });
  assert.equal(updated.result.organization_fields.erp_city, null);
  say('update and clear');

  const job = await client.organizations.createMany({ organizations: Array.from({ length: 100 }, (_, i) => ({ name: `Bulk ${i}` })) });
  const status = await client.jobstatuses.show(job.result.job_status.id);
  assert.equal(status.result.job_status.status, 'completed');
  await client.organizations.createMany({ organizations: Array.from({ length: 60 }, (_, i) => ({ name: `More ${i}` })) });
  say('job');

  const all = await client.organizations.list();
  assert.equal(all.length, 162);
  assert.equal(new Set(all.map((o) => o.id)).size, 162);
  say('page');

  const ticket = await client.tickets.create({ ticket: { subject: 'Where is it?', comment: { body: 'SO-10248' }, organization_id: made.result.id } });
  assert.equal(ticket.result.status, 'new');
  const open = await client.tickets.update(ticket.result.id, { ticket: { status: 'open', comment: { body: 'Shipped.', public: false } } });
  assert.equal(open.result.status, 'open');
  const comments = await client.tickets.getComments(ticket.result.id);
  assert.equal(comments.length, 2);
  await refused(client.tickets.update(ticket.result.id, { ticket: { status: 'hold', safe_update: true, updated_stamp: '2001-01-01T00:00:00Z' } }), /409/);
  say('ticket');

  const ann = await client.users.createOrUpdate({ user: { name: 'Ann', email: 'ann@example.com', external_id: 'con-1', organization_id: made.result.id } });
  assert.equal(ann.response.status, 201);
  const bob = await client.users.create({ user: { name: 'Bob', email: 'bob@example.com' } });
  await refused(client.users.create({ user: { name: 'Bob', email: 'BOB@example.com' } }), /422/);
  await client.users.update(ann.result.id, { user: { email: 'lee@example.com', phone: '+34 91' } });
  const shownUser = await client.users.show(ann.result.id);
  assert.equal(shownUser.result.email, 'ann@example.com');
  assert.equal(shownUser.result.organization_id, made.result.id);
  const identities = await client.useridentities.list(ann.result.id);
  assert.deepEqual(identities.map((i) => [i.value, i.primary]), [['ann@example.com', true], ['lee@example.com', false]]);
  await client.useridentities.makePrimary(ann.result.id, identities[1].id);
  assert.equal((await client.users.show(ann.result.id)).result.email, 'lee@example.com');
  const searched = await client.users.search({ external_id: 'con-1' });
  assert.equal(searched.length, 1);
  await client.users.merge(bob.result.id, ann.result.id);
  assert.equal((await client.users.show(bob.result.id)).result.active, false);
  assert.equal((await client.useridentities.list(ann.result.id)).length, 3);
  say('user');

  await refused(client.organizations.show(1), /404/);
  const invalid = await refused(client.organizations.create({ organization: { name: '' } }), /422/);
  assert.ok(invalid);
  await refused(client.organizations.create({ organization: { name: 'Around the Horn' } }), /422/);
  await refused(zendesk.createClient({ ...options, token: 'wrong' }).organizations.list(), /401/);
  say('error');

  const hook = await client.webhooks.create({ webhook: { name: 'Sorrel', status: 'inactive', endpoint: 'https://sorrel.example/webhooks/zendesk', http_method: 'POST', request_format: 'json', subscriptions: ['zen:event-type:organization.created'] } });
  const secret = await client.webhooks.getSigningSecret(hook.result.id);
  assert.equal(secret.result.signing_secret.algorithm, 'SHA256');
  say('webhook');

  await client.organizations.delete(other.result.id);
  await refused(client.organizations.show(other.result.id), /404/);
  say('delete');
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
