// Runs sorrel_push.js, sorrel_rule.js and sorrel_sla.js with stand-ins for ServiceNow's objects and prints what they post
// and set. argv: the folder of the scripts.
const fs = require('fs');
const vm = require('vm');
const nodeCrypto = require('crypto');

const properties = { 'sorrel.push.url': 'https://sorrel.test/webhooks/servicenow', 'sorrel.push.secret': 'vector-secret-0123456789', 'sorrel.push.fields': ' customer_account.u_region, customer_contact.u_x' };
const posted = [];
const errors = [];
let route = true;

function RESTMessageV2() { this.headers = {}; }
RESTMessageV2.prototype = {
  setEndpoint(url) { this.url = url; }, setHttpMethod(m) { this.method = m; }, setRequestHeader(k, v) { this.headers[k] = v; }, setRequestBody(b) { this.body = b; },
  executeAsync() { if (!route) throw new Error('no route'); posted.push(this); },
};

// A record's elements: booleans are 1 and 0 by getValue, but true and false as strings.
function record(table, operation, values) {
  const raw = (v) => (v === true ? '1' : v === false ? '0' : v === '' ? null : v);
  return {
    getTableName: () => table, operation: () => operation, getUniqueValue: () => values.sys_id,
    getValue: (name) => raw(values[name]), isValidField: (name) => name in values, getElement: (name) => ({ toString: () => String(values[name]) }),
  };
}

const context = vm.createContext({
  Class: { create: () => function C() { this.initialize(); } },
  gs: { getProperty: (name, otherwise) => (name in properties ? properties[name] : otherwise), getUserName: () => 'bob.manager', error: (e) => errors.push(e) },
  GlideDateTime: function GlideDateTime() { this.getValue = () => new Date().toISOString().slice(0, 19).replace('T', ' '); },
  GlideStringUtil: { base64Encode: (s) => Buffer.from(s).toString('base64') },
  GlideCertificateEncryption: function GlideCertificateEncryption() {
    this.generateMac = (key, algorithm, text) => {
      if (algorithm !== 'HmacSHA256') throw new Error(algorithm);
      return nodeCrypto.createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
    };
  },
  sn_ws: { RESTMessageV2 },
});
const read = (name) => fs.readFileSync(`${process.argv[2]}/${name}`, 'utf8');
vm.runInContext(read('sorrel_push.js'), context);
const rule = read('sorrel_rule.js');
function save(rec) { context.current = rec; context.previous = null; vm.runInContext(rule, context); }

const values = {
  sys_id: 'ba325dbe64f01300964fae39b050e9a6', sys_mod_count: '2', sys_updated_on: '2026-11-02 08:15:20', sys_updated_by: 'alice.agent', sys_created_on: '2026-11-01 10:00:00',
  number: 'ACCT0010001', name: 'Bólido – “Größe” 🎉', city: '', active: true, u_sorrel_id: 'customer-1', u_credit_limit: '1200.5', u_region: 'EMEA', user_password: 'never',
};
save(record('customer_account', 'update', values));
save(record('customer_account', 'delete', values));
save(record('incident', 'update', values));
route = false;
save(record('customer_account', 'insert', values));
route = true;
properties['sorrel.push.secret'] = 'short';
save(record('customer_account', 'insert', values));

// A breached SLA marks its case once; that of an incident, and one that is not breached, nothing.
const cases = { c1: { u_sla_breached: false }, c2: { u_sla_breached: false } };
const saved = [];
context.GlideRecord = function GlideRecord(table) {
  this.get = (id) => table === 'sn_customerservice_case' && id in cases && Boolean(this.id = id);
  this.getElement = (name) => ({ toString: () => String(cases[this.id][name]) });
  this.setValue = (name, value) => { cases[this.id][name] = value; };
  this.update = () => saved.push(this.id);
};
const sla = read('sorrel_sla.js');
for (const [task, breached] of [['c1', true], ['c1', true], ['c2', false], ['incident1', true]]) {
  context.current = record('task_sla', 'update', { sys_id: 's', task, has_breached: breached });
  vm.runInContext(sla, context);
}
process.stdout.write(JSON.stringify({ posted, errors, saved, cases }));
