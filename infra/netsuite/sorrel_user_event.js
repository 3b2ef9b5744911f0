/**
 * Tells Sorrel about every save and deletion of a customer, contact, sales order, item fulfillment, invoice or contract, and
 * about what a customer payment changes.
 *
 * beforeSubmit counts saves in custentity_sorrel_rev / custbody_sorrel_rev, because lastModifiedDate has whole
 * seconds, and keeps who saved in custentity_sorrel_user / custbody_sorrel_user, because entities name no author. A
 * contract has fields of its own for both.
 * A payment changes invoices, and both payments and invoices change what a customer owes, without a user event on what
 * changed. So afterSubmit counts those as if they had been saved, which also moves their modification time, and posts them.
 * Of an invoice that a payment settles it keeps the payment's date in custbody_sorrel_paid_on.
 * A deleted customer or contact whose custentity_sorrel_merge_into names another one is told as merged into it.
 * afterSubmit loads what was committed and posts it once, signed. A failed post is logged and never
 * stops the save: Sorrel's incremental reading brings what is lost here.
 *
 * @NApiVersion 2.1
 * @NScriptType UserEventScript
 */
define(['N/https', 'N/crypto', 'N/encode', 'N/record', 'N/runtime', 'N/log'], (https, crypto, encode, record, runtime, log) => {
  const ENTITY = { rev: 'custentity_sorrel_rev', user: 'custentity_sorrel_user', into: 'custentity_sorrel_merge_into' };
  const BODY = { rev: 'custbody_sorrel_rev', user: 'custbody_sorrel_user' };
  const KINDS = {
    customer: {
      ...ENTITY, type: 'customer', created: 'datecreated',
      fields: {
        entityId: 'entityid', companyName: 'companyname', email: 'email', phone: 'phone', url: 'url', isInactive: 'isinactive:bool',
        subsidiary: 'subsidiary:choice', currency: 'currency:choice', terms: 'terms:choice', creditLimit: 'creditlimit:number', balance: 'balance:number',
        overdueBalance: 'overduebalance:number',
        creditHoldOverride: 'creditholdoverride:choice', vatRegNumber: 'vatregnumber', custentity_segment: 'custentity_segment',
        custentity_sorrel_activation: 'custentity_sorrel_activation',
      },
      sublists: {
        addressBook: {
          id: 'addressbook', fields: { label: 'label', defaultBilling: 'defaultbilling:bool', defaultShipping: 'defaultshipping:bool' },
          subrecords: { addressBookAddress: 'addressbookaddress' },
        },
      },
    },
    contact: {
      ...ENTITY, type: 'contact', created: 'datecreated',
      fields: {
        entityId: 'entityid', firstName: 'firstname', lastName: 'lastname', email: 'email', phone: 'phone', mobilePhone: 'mobilephone', title: 'title',
        company: 'company:id', isInactive: 'isinactive:bool',
      },
      sublists: {},
    },
    salesorder: {
      ...BODY, type: 'salesOrder', created: 'createddate',
      fields: {
        tranId: 'tranid', tranDate: 'trandate:date', entity: 'entity:id', otherRefNum: 'otherrefnum', orderStatus: 'orderstatus:id', currency: 'currency:choice',
        subtotal: 'subtotal:number', taxTotal: 'taxtotal:number', shippingCost: 'shippingcost:number', total: 'total:number', memo: 'memo',
        shipDate: 'shipdate:date', shipMethod: 'shipmethod:choice',
      },
      subrecords: { shippingAddress: 'shippingaddress' },
      sublists: {
        item: {
          id: 'item',
          fields: {
            line: 'line:number', item: 'item:choice', description: 'description', quantity: 'quantity:number', rate: 'rate:number', amount: 'amount:number',
            quantityFulfilled: 'quantityfulfilled:number', quantityBilled: 'quantitybilled:number',
          },
        },
      },
    },
    itemfulfillment: {
      ...BODY, type: 'itemFulfillment', created: 'createddate',
      fields: {
        createdFrom: 'createdfrom:id', entity: 'entity:id', tranId: 'tranid', tranDate: 'trandate:date', shipStatus: 'shipstatus:id',
        shipMethod: 'shipmethod:choice', shipCarrier: 'shipcarrier',
      },
      sublists: {
        item: { id: 'item', fields: { orderLine: 'orderline:number', item: 'item:choice', quantity: 'quantity:number' } },
        package: {
          id: 'package',
          fields: { packageTrackingNumber: 'packagetrackingnumber', packageWeight: 'packageweight:number', packageDescr: 'packagedescr' },
        },
      },
    },
    invoice: {
      ...BODY, type: 'invoice', created: 'createddate',
      fields: {
        createdFrom: 'createdfrom:id', entity: 'entity:id', tranId: 'tranid', tranDate: 'trandate:date', dueDate: 'duedate:date', status: 'status:id',
        currency: 'currency:choice', total: 'total:number', amountRemaining: 'amountremaining:number', memo: 'memo',
        custbody_sorrel_paid_on: 'custbody_sorrel_paid_on:date',
      },
      sublists: {},
    },
    customerpayment: { applied: true },
    customrecord_sorrel_contract: {
      rev: 'custrecord_sorrel_contract_rev', user: 'custrecord_sorrel_contract_user', type: 'customrecord_sorrel_contract', created: 'created', modified: 'lastmodified',
      fields: {
        name: 'name', custrecord_sorrel_contract_customer: 'custrecord_sorrel_contract_customer:id', custrecord_sorrel_contract_status: 'custrecord_sorrel_contract_status:choice',
        custrecord_sorrel_contract_tier: 'custrecord_sorrel_contract_tier:choice', custrecord_sorrel_contract_starts: 'custrecord_sorrel_contract_starts:date',
        custrecord_sorrel_contract_ends: 'custrecord_sorrel_contract_ends:date', custrecord_sorrel_contract_product: 'custrecord_sorrel_contract_product',
      },
      sublists: {},
    },
  };

  const ADDRESS = ['addressee', 'addr1', 'addr2', 'city', 'state', 'zip', 'country'];

  const pad = (n) => String(n).padStart(2, '0');
  const utc = (date) => date.toISOString().replace(/\.\d+Z$/, 'Z');

  /** A value in the record API's shape; undefined leaves the field out. */
  function shaped(kind, value, text) {
    if (value === null || value === undefined || value === '') return undefined;
    switch (kind) {
      case 'number': return Number(value);
      case 'bool': return value === true || value === 'T';
      case 'id': return { id: String(value) };
      case 'choice': return { id: String(value), refName: text() };
      case 'date': return value instanceof Date ? `${value.getFullYear()}-${pad(value.getMonth() + 1)}-${pad(value.getDate())}` : String(value);
      case 'time': return value instanceof Date ? utc(value) : String(value);
      default: return String(value);
    }
  }

  /** Reads fields ("name" → "fieldid:kind") through get and text. */
  function read(fields, get, text) {
    const out = {};
    Object.keys(fields).forEach((name) => {
      const [id, kind] = fields[name].split(':');
      const value = shaped(kind, get(id), () => text(id));
      if (value !== undefined) out[name] = value;
    });
    return out;
  }

  function address(subrecord) {
    if (!subrecord) return undefined;
    return read(Object.fromEntries(ADDRESS.map((name) => [name, name])), (id) => subrecord.getValue({ fieldId: id }));
  }

  function lines(rec, sublist) {
    const items = [];
    const count = rec.getLineCount({ sublistId: sublist.id });
    for (let line = 0; line < count; line += 1) {
      const at = (id) => ({ sublistId: sublist.id, fieldId: id, line });
      const item = read(sublist.fields, (id) => rec.getSublistValue(at(id)), (id) => rec.getSublistText(at(id)));
      Object.keys(sublist.subrecords || {}).forEach((name) => {
        const value = address(rec.getSublistSubrecord(at(sublist.subrecords[name])));
        if (value) item[name] = value;
      });
      items.push(item);
    }
    return { items };
  }

  /** Custom fields that the deployment names: "custbody_region,custbody_weight:number". */
  function extras(parameter) {
    const out = {};
    String(parameter || '').split(',').map((s) => s.trim()).filter(Boolean).forEach((entry) => { out[entry.split(':')[0]] = entry; });
    return out;
  }

  function shape(kind, rec, extra) {
    const out = read({ ...kind.fields, ...extra }, (id) => rec.getValue({ fieldId: id }), (id) => rec.getText({ fieldId: id }));
    Object.keys(kind.subrecords || {}).forEach((name) => {
      const value = address(rec.getSubrecord({ fieldId: kind.subrecords[name] }));
      if (value) out[name] = value;
    });
    Object.keys(kind.sublists).forEach((name) => { out[name] = lines(rec, kind.sublists[name]); });
    return out;
  }

  /** The signature over timestamp + "." + body; secret is the id of an API secret of the account. */
  function sign(secret, timestamp, body) {
    const key = crypto.createSecretKey({ secret, encoding: encode.Encoding.UTF_8 });
    const hmac = crypto.createHmac({ algorithm: crypto.HashAlg.SHA256, key });
    hmac.update({ input: `${timestamp}.${body}`, inputEncoding: encode.Encoding.UTF_8 });
    return `v1=${hmac.digest({ outputEncoding: encode.Encoding.HEX }).toLowerCase()}`;
  }

  function uuid() {
    return 'xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx'.replace(/x/g, () => Math.floor(Math.random() * 16).toString(16));
  }

  function beforeSubmit(context) {
    const kind = KINDS[context.newRecord.type];
    if (!kind || kind.applied || context.type === context.UserEventType.DELETE) return;
    const before = context.oldRecord ? Number(context.oldRecord.getValue({ fieldId: kind.rev })) || 0 : 0;
    context.newRecord.setValue({ fieldId: kind.rev, value: before + 1 });
    context.newRecord.setValue({ fieldId: kind.user, value: String(runtime.getCurrentUser().id) });
  }

  /** Posts one message about rec, which is of that kind and was saved, or deleted, in that execution context. */
  function tell(kind, rec, event, how, deleted) {
    const script = runtime.getCurrentScript();
    const now = utc(new Date());
    const when = (id) => { const v = rec.getValue({ fieldId: id }); return v instanceof Date ? utc(v) : undefined; };
    const rev = Number(rec.getValue({ fieldId: kind.rev })) || 0;
    const into = deleted && kind.into ? String(rec.getValue({ fieldId: kind.into }) || '') : '';
    const message = {
      id: uuid(),
      type: into ? 'record.merged' : deleted ? 'record.deleted' : 'record.saved',
      event,
      context: how,
      user: String(runtime.getCurrentUser().id),
      record: {
        type: kind.type,
        id: String(rec.id),
        into: into || undefined,
        externalId: rec.getValue({ fieldId: 'externalid' }) || null,
        lastModifiedDate: deleted ? now : when(kind.modified || 'lastmodifieddate'),
        createdDate: when(kind.created),
        rev: deleted ? rev + 1 : rev,
        fields: deleted ? undefined : shape(kind, rec, extras(script.getParameter({ name: 'custscript_sorrel_extra_fields' }))),
      },
    };
    const body = JSON.stringify(message);
    const answer = https.post({
      url: script.getParameter({ name: 'custscript_sorrel_url' }),
      body,
      headers: {
        'Content-Type': 'application/json',
        'X-Sorrel-Timestamp': now,
        'X-Sorrel-Signature': sign(script.getParameter({ name: 'custscript_sorrel_secret' }), now, body),
      },
    });
    if (answer.code < 200 || answer.code > 299) log.error({ title: 'Sorrel', details: `${message.id}: answered ${answer.code}` });
  }

  /** Logs what goes wrong with one record and lets the others be told. */
  function attempt(act) {
    try {
      act();
    } catch (e) {
      log.error({ title: 'Sorrel', details: e.message });
    }
  }

  /** Counts and tells a record that the save of another one has changed. A record that cannot be counted is told all the same. */
  function touch(type, id, event, change) {
    const kind = KINDS[type];
    const before = record.load({ type, id });
    const values = { [kind.rev]: (Number(before.getValue({ fieldId: kind.rev })) || 0) + 1, ...(change ? change(before) : {}) };
    attempt(() => record.submitFields({ type, id, values }));
    tell(kind, record.load({ type, id }), event, 'USEREVENT', false);
  }

  /** The invoices that a payment is applied to; rec may be missing. */
  function applied(rec) {
    const ids = [];
    const count = rec ? rec.getLineCount({ sublistId: 'apply' }) : 0;
    for (let line = 0; line < count; line += 1) {
      const at = (fieldId) => rec.getSublistValue({ sublistId: 'apply', fieldId, line });
      if ((at('apply') === true || at('apply') === 'T') && at('trantype') === 'CustInvc') ids.push(String(at('internalid')));
    }
    return ids;
  }

  /** Who owes an invoice, and how much of it. */
  const owed = (rec) => (rec ? `${rec.getValue({ fieldId: 'entity' })} ${rec.getValue({ fieldId: 'amountremaining' })} ${rec.getValue({ fieldId: 'duedate' })}` : '');

  const AT_MOST = 20; // invoices of one payment that are told at once; incremental reading brings the others

  function paid(context) {
    const payment = context.newRecord;
    const deleted = context.type === context.UserEventType.DELETE;
    const now = deleted ? undefined : record.load({ type: payment.type, id: payment.id });
    const on = (invoice) => ({ custbody_sorrel_paid_on: Number(invoice.getValue({ fieldId: 'amountremaining' })) > 0 ? '' : now ? now.getValue({ fieldId: 'trandate' }) : '' });
    [...new Set([...applied(now), ...applied(context.oldRecord)])].slice(0, AT_MOST)
      .forEach((id) => attempt(() => touch('invoice', id, context.type, on)));
    const customers = [now, context.oldRecord].filter(Boolean).map((rec) => String(rec.getValue({ fieldId: 'customer' })));
    [...new Set(customers)].forEach((id) => attempt(() => touch('customer', id, context.type)));
  }

  function afterSubmit(context) {
    attempt(() => {
      const saved = context.newRecord;
      const kind = KINDS[saved.type];
      if (!kind) return;
      if (kind.applied) {
        paid(context);
        return;
      }
      const deleted = context.type === context.UserEventType.DELETE;
      const rec = deleted ? context.oldRecord : record.load({ type: saved.type, id: saved.id });
      attempt(() => tell(kind, rec, context.type, runtime.executionContext, deleted));
      if (saved.type !== 'invoice') return;
      const now = deleted ? undefined : rec;
      if (owed(now) === owed(context.oldRecord)) return;
      const customers = [now, context.oldRecord].filter(Boolean).map((r) => String(r.getValue({ fieldId: 'entity' })));
      [...new Set(customers)].forEach((id) => attempt(() => touch('customer', id, context.type)));
    });
  }

  return { beforeSubmit, afterSubmit };
});
