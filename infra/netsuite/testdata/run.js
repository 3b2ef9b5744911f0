// Runs sorrel_user_event.js with stand-ins for NetSuite's modules and prints what it posts, as JSON lines.
// argv: the script's path.
const fs = require('fs');
const nodeCrypto = require('crypto');

const secrets = { custsecret_sorrel: 'vector-secret-0123456789' };
const parameters = { custscript_sorrel_url: 'https://sorrel.test/webhooks/netsuite', custscript_sorrel_secret: 'custsecret_sorrel', custscript_sorrel_extra_fields: 'custbody_region, custbody_weight:number' };
const posted = [];
const errors = [];
const modules = {
  'N/https': { post: (r) => { posted.push(r); return { code: 202 }; } },
  'N/encode': { Encoding: { UTF_8: 'utf8', HEX: 'hex' } },
  'N/crypto': {
    HashAlg: { SHA256: 'sha256' },
    createSecretKey: ({ secret, encoding }) => Buffer.from(secrets[secret], encoding),
    createHmac: ({ algorithm, key }) => {
      const h = nodeCrypto.createHmac(algorithm, key);
      return { update: ({ input, inputEncoding }) => h.update(input, inputEncoding), digest: ({ outputEncoding }) => h.digest(outputEncoding).toUpperCase() };
    },
  },
  'N/record': {
    load: ({ type, id }) => others[`${type}/${id}`] || stored,
    submitFields: ({ type, id, values: changed }) => {
      Object.keys(changed).forEach((fieldId) => others[`${type}/${id}`].setValue({ fieldId, value: changed[fieldId] }));
      if (`${type}/${id}` === locked) throw new Error('period closed');
    },
  },
  'N/runtime': { executionContext: 'USERINTERFACE', getCurrentScript: () => ({ getParameter: ({ name }) => parameters[name] }), getCurrentUser: () => ({ id: 7 }) },
  'N/log': { error: (e) => errors.push(e) },
};

function rec(type, id, values, texts, sublists, subrecords) {
  return {
    type, id,
    getValue: ({ fieldId }) => (fieldId in values ? values[fieldId] : ''),
    getText: ({ fieldId }) => texts[fieldId] || '',
    setValue: ({ fieldId, value }) => { values[fieldId] = value; },
    getLineCount: ({ sublistId }) => (sublists[sublistId] || []).length,
    getSublistValue: ({ sublistId, fieldId, line }) => { const v = sublists[sublistId][line][fieldId]; return v === undefined ? '' : v; },
    getSublistText: ({ sublistId, fieldId, line }) => sublists[sublistId][line][`${fieldId}_text`] || '',
    getSubrecord: ({ fieldId }) => subrecords[fieldId],
  };
}

const address = rec('address', 1, { addressee: 'Alfreds Futterkiste', addr1: 'Obere Str. 57', city: 'Berlin', zip: '12209', country: 'DE' }, {}, {}, {});
const values = {
  tranid: 'SO10643', trandate: new Date(2026, 10, 1), entity: 107, otherrefnum: 'PO-1', orderstatus: 'B', currency: '5', subtotal: 814.5, total: 843.96, shippingcost: 29.46,
  memo: 'Größe – naïve', shipmethod: '1', custbody_sorrel_rev: 41, custbody_region: 'EMEA', custbody_weight: '12.5', externalid: 'order-1',
  lastmodifieddate: new Date('2026-11-02T08:34:00Z'), createddate: new Date('2026-11-01T10:00:00Z'),
};
let stored = rec('salesorder', 1234, values, { currency: 'CHF', shipmethod: 'Speedy Express' },
  { item: [{ line: 1, item: 28, item_text: 'Rössle Sauerkraut', quantity: 15, rate: '45.60', amount: 684, quantityfulfilled: 0, quantitybilled: 0, description: 'Rössle' }] }, { shippingaddress: address });

const others = {};
let locked = '';
let script;
global.define = (names, factory) => { script = factory(...names.map((n) => modules[n])); };
eval(fs.readFileSync(process.argv[2], 'utf8'));

const UserEventType = { CREATE: 'create', EDIT: 'edit', DELETE: 'delete' };
const old = rec('salesorder', 1234, { ...values }, {}, {}, {});
script.beforeSubmit({ type: 'edit', UserEventType, newRecord: stored, oldRecord: old });
script.afterSubmit({ type: 'edit', UserEventType, newRecord: stored, oldRecord: old });
script.afterSubmit({ type: 'delete', UserEventType, newRecord: rec('salesorder', 1234, {}, {}, {}, {}), oldRecord: stored });
const duplicate = rec('contact', 77, { externalid: 'contact-1', custentity_sorrel_rev: 3, custentity_sorrel_merge_into: 76 }, {}, {}, {});
script.afterSubmit({ type: 'delete', UserEventType, newRecord: rec('contact', 77, {}, {}, {}, {}), oldRecord: duplicate });
stored = rec('contact', 76, { firstname: 'Maria', lastname: 'Anders', company: 107, isinactive: false, lastmodifieddate: new Date('2026-11-02T08:35:00Z') }, {}, {}, {});
modules['N/runtime'].executionContext = 'RESTWEBSERVICES';
script.beforeSubmit({ type: 'create', UserEventType, newRecord: stored });
script.afterSubmit({ type: 'create', UserEventType, newRecord: stored });
script.afterSubmit({ type: 'edit', UserEventType, newRecord: rec('vendor', 1, {}, {}, {}, {}), oldRecord: old });

// A payment settles one invoice and half of another, whose period is locked; a journal entry is no invoice. Then the first is
// edited without a change of what is owed, the second is billed anew, and the payment is deleted.
modules['N/runtime'].executionContext = 'USERINTERFACE';
const lastmodifieddate = new Date('2026-11-02T08:36:00Z');
const invoice = (id, left) => rec('invoice', id, {
  entity: '107', createdfrom: '1234', tranid: `INV${id}`, trandate: new Date(2026, 9, 1), duedate: new Date(2026, 9, 31), status: left ? 'Open' : 'Paid In Full', currency: '5',
  total: 174, amountremaining: left, custbody_sorrel_rev: 4, lastmodifieddate,
}, { currency: 'CHF' }, {}, {});
others['invoice/501'] = invoice(501, 0);
others['invoice/502'] = invoice(502, 87);
others['customer/107'] = rec('customer', 107, { companyname: 'Alfreds', balance: 87, overduebalance: 87, custentity_sorrel_rev: 9, lastmodifieddate }, {}, {}, {});
others['customerpayment/900'] = rec('customerpayment', 900, { customer: '107', trandate: new Date(2026, 10, 2) }, {}, {
  apply: [{ apply: true, trantype: 'CustInvc', internalid: '501' }, { apply: 'T', trantype: 'CustInvc', internalid: '502' }, { apply: true, trantype: 'Journal', internalid: '503' }, { apply: false, trantype: 'CustInvc', internalid: '504' }],
}, {});
locked = 'invoice/502';
const payment = others['customerpayment/900'];
script.beforeSubmit({ type: 'create', UserEventType, newRecord: payment });
script.afterSubmit({ type: 'create', UserEventType, newRecord: payment });
script.afterSubmit({ type: 'edit', UserEventType, newRecord: others['invoice/501'], oldRecord: others['invoice/501'] });
script.afterSubmit({ type: 'create', UserEventType, newRecord: others['invoice/502'] });
locked = '';
script.afterSubmit({ type: 'delete', UserEventType, newRecord: rec('customerpayment', 900, {}, {}, {}, {}), oldRecord: payment });

const contract = rec('customrecord_sorrel_contract', 12, {
  name: 'CON-12', custrecord_sorrel_contract_customer: '107', custrecord_sorrel_contract_status: '2', custrecord_sorrel_contract_tier: '3', custrecord_sorrel_contract_starts: new Date(2026, 0, 1),
  custrecord_sorrel_contract_ends: new Date(2027, 11, 31), custrecord_sorrel_contract_rev: 2, externalid: 'contract-1', created: new Date('2026-01-01T08:00:00Z'), lastmodified: lastmodifieddate,
}, { custrecord_sorrel_contract_status: 'Active', custrecord_sorrel_contract_tier: 'VIP' }, {}, {});
others['customrecord_sorrel_contract/12'] = contract;
script.beforeSubmit({ type: 'edit', UserEventType, newRecord: contract, oldRecord: contract });
script.afterSubmit({ type: 'edit', UserEventType, newRecord: contract, oldRecord: contract });

modules['N/https'].post = () => { throw new Error('no route'); };
script.afterSubmit({ type: 'edit', UserEventType, newRecord: stored, oldRecord: old });
process.stdout.write(JSON.stringify({ posted, errors }));
