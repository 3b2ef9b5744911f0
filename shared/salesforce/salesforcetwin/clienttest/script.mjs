// Drives the twin with jsforce, which knows nothing of it, and prints what came back as one JSON object.
// Arguments: the twin's URL, client id, client secret.
import jsforce from 'jsforce';

const [url, clientId, clientSecret] = process.argv.slice(2);
const out = {};

const post = async (path, body) => {
  const answer = await fetch(url + path, { method: 'POST', body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
};
// What an operation failed with, or null.
const failure = async (operation) => {
  try {
    await operation();
    return null;
  } catch (e) {
    return { code: e.errorCode ?? e.name, message: String(e.message) };
  }
};

// Sign-in by client credentials, then a connection as applications make it.
const oauth2 = { loginUrl: url, clientId, clientSecret };
const signIn = async () => {
  const conn = new jsforce.Connection({ instanceUrl: url, loginUrl: url, oauth2, version: '66.0', callOptions: { client: 'jsforceTest' } });
  await conn.authorize({ grant_type: 'client_credentials' });
  return conn;
};
const conn = await signIn();
out.token = typeof conn.accessToken;
out.wrongSecret = await failure(() =>
  new jsforce.Connection({ loginUrl: url, oauth2: { ...oauth2, clientSecret: 'wrong' } }).authorize({ grant_type: 'client_credentials' }));

// Create, read, update, delete.
const Account = conn.sobject('Account');
const created = await Account.create({ Name: 'Blauer See Delikatessen', Phone: '0621-08460', AnnualRevenue: 35000000 });
out.created = created.success;
const read = await Account.retrieve(created.id);
out.read = { Name: read.Name, AnnualRevenue: read.AnnualRevenue, type: read.attributes.type, modified: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000\+0000$/.test(read.SystemModstamp) };
out.updated = (await Account.update({ Id: created.id, Phone: null, Website: 'https://blauersee.example' })).success;
const again = await Account.retrieve(created.id.slice(0, 15));
out.cleared = again.Phone;
out.deleted = (await Account.destroy(created.id)).success;
out.deletedTwice = await failure(() => Account.destroy(created.id));

// Upsert by external id: created, then not; then many in one call, one of which is bad.
out.upsert = [];
for (const name of ['Ernst Handel', 'Ernst Handel GmbH']) {
  const r = await Account.upsert({ Sorrel_Id__c: 'customer-ernsh', Name: name }, 'Sorrel_Id__c');
  out.upsert.push({ success: r.success, created: r.created });
}
const many = await Account.upsert(
  [
    { Sorrel_Id__c: 'customer-ernsh', Name: 'Ernst Handel AG' },
    { Sorrel_Id__c: 'customer-alfki', Name: 'Alfreds Futterkiste' },
    { Sorrel_Id__c: 'customer-nobody' },
  ],
  'Sorrel_Id__c',
);
out.upsertMany = many.map((r) => ({ success: r.success, created: r.created, code: r.errors[0]?.statusCode }));

// Parent by external id, relationship query, restricted picklist.
const order = await conn.sobject('Order').create({
  Account: { Sorrel_Id__c: 'customer-alfki' }, EffectiveDate: '2026-11-02', Status: 'Draft', ERP_Status__c: 'Billed', ERP_Total__c: 814.5,
});
const found = await conn.query("SELECT Id, ERP_Total__c, Account.Name FROM Order WHERE Account.Sorrel_Id__c = 'customer-alfki'");
out.relationship = { same: found.records[0].Id === order.id, account: found.records[0].Account.Name, total: found.records[0].ERP_Total__c };
out.picklist = await failure(() => conn.sobject('Order').update({ Id: order.id, ERP_Status__c: 'Teleported' }));

// 450 records in collections; pages of 200; queryMore to the end; jsforce's own query builder.
const names = Array.from({ length: 450 }, (_, i) => ({ Name: `Page ${String(i).padStart(3, '0')}`, Sorrel_Id__c: `page-${i}` }));
for (let i = 0; i < names.length; i += 200) await Account.create(names.slice(i, i + 200));
const pages = [];
let page = await conn.query("SELECT Id, Name FROM Account WHERE Name LIKE 'Page %' ORDER BY Name", { headers: { 'Sforce-Query-Options': 'batchSize=200' } });
pages.push(page.records.length);
while (!page.done) {
  page = await conn.queryMore(page.nextRecordsUrl);
  pages.push(page.records.length);
}
out.pages = { sizes: pages, total: page.totalSize, last: page.records.at(-1).Name };
out.builder = (await Account.find({ Name: { $like: 'Page 44%' } }, 'Id, Name').sort({ Name: -1 }).limit(3).execute()).map((r) => r.Name);
out.count = await Account.count({ Name: { $like: 'Page %' } });
out.deletedMany = (await Account.destroy((await Account.find({ Name: { $like: 'Page 00%' } }, 'Id').execute()).map((r) => r.Id))).filter((r) => r.success).length;
out.describe = (await Account.describe()).fields.find((f) => f.name === 'Sorrel_Id__c').externalId;

// Errors as the vendor says them.
out.badField = await failure(() => Account.create({ Name: 'x', Nmae: 'y' }));
out.badQuery = await failure(() => conn.query('SELECT Id FROM Account WHERE'));
out.badLocator = await failure(() => conn.queryMore('01gxx0000000000AAA-200'));
out.notFound = await failure(() => Account.retrieve('001xx0000000zzzAAA'));
out.duplicate = await failure(() => Account.create({ Name: 'x', Sorrel_Id__c: 'customer-alfki' }));

// A session that ends mid-run, the daily limit, and an outage with an HTML page.
await post('/_twin/expire', {});
out.expired = await failure(() => new jsforce.Connection({ instanceUrl: url, accessToken: conn.accessToken, version: '66.0' }).query('SELECT Id FROM Account LIMIT 1'));
const fresh = await signIn();
await post('/_twin/fault', { throttle: 1 });
out.throttled = await failure(() => fresh.query('SELECT Id FROM Account LIMIT 1'));
await post('/_twin/fault', {});
out.usage = fresh.limitInfo.apiUsage?.limit;
await fresh.query('SELECT Id FROM Account LIMIT 1');
out.usageAfter = fresh.limitInfo.apiUsage?.limit;

console.log(JSON.stringify(out));
