/**
 * Script include SorrelPush: tells Sorrel about every save and deletion of a customer account, a customer contact or a
 * case. The business rules of setup.json call it after each of them.
 *
 * It signs and hands the message over within the save and does not wait for an answer: executeAsync leaves the sending
 * to the instance. A failure is logged and never stops the save; Sorrel's incremental reading brings what is lost here.
 *
 * Only the named fields are sent, because a contact is a user, with everything that an instance knows of a user.
 * More fields: property sorrel.push.fields, such as "customer_account.u_region, customer_contact.u_language".
 *
 * ECMAScript 5, global scope.
 */
var SorrelPush = Class.create();
SorrelPush.prototype = {
  initialize: function () {},

  FIELDS: {
    customer_account: ['number', 'name', 'street', 'city', 'state', 'zip', 'country', 'phone', 'website', 'notes', 'active', 'account_parent',
      'u_sorrel_id', 'u_erp_number', 'u_tax_id', 'u_currency', 'u_credit_limit', 'u_credit_hold', 'u_balance', 'u_terms', 'u_industry', 'u_segment',
      'u_account_manager', 'u_support_tier', 'u_sales_context'],
    customer_contact: ['name', 'first_name', 'last_name', 'email', 'phone', 'mobile_phone', 'title', 'account', 'active', 'u_sorrel_id'],
    sn_customerservice_case: ['number', 'short_description', 'description', 'state', 'priority', 'account', 'contact', 'assigned_to', 'assignment_group',
      'contact_type', 'category', 'opened_at', 'resolved_at', 'closed_at', 'resolution_code', 'close_notes', 'active', 'correlation_id',
      'correlation_display', 'u_sorrel_id', 'u_sla_breached', 'u_sorrel_escalation', 'u_erp_context', 'u_crm_context',
      'u_entitled_tier', 'u_entitled_until', 'u_entitlement_reason']
  },

  send: function (current) {
    try {
      var table = String(current.getTableName());
      if (!this.FIELDS[table]) return;
      var operation = String(current.operation());
      var deleted = operation === 'delete';
      var now = String(new GlideDateTime().getValue()); // UTC, yyyy-MM-dd HH:mm:ss
      var message = {
        table: table,
        operation: operation,
        sys_id: String(current.getUniqueValue()),
        sys_mod_count: Number(current.getValue('sys_mod_count')) + (deleted ? 1 : 0),
        sys_updated_on: deleted ? now : String(current.getValue('sys_updated_on')),
        sys_updated_by: deleted ? String(gs.getUserName()) : String(current.getValue('sys_updated_by')),
        sys_created_on: String(current.getValue('sys_created_on'))
      };
      if (!deleted) message.fields = this.fields(current, table);
      this.post(this.ascii(JSON.stringify(message)), now.replace(' ', 'T') + 'Z');
    } catch (e) {
      gs.error('Sorrel: ' + e);
    }
  },

  /** Values as the Table API says them: getValue would say 1 and 0 for true and false. */
  fields: function (current, table) {
    var names = this.FIELDS[table].concat(this.extras(table));
    var out = {};
    for (var i = 0; i < names.length; i++) {
      if (current.isValidField(names[i])) out[names[i]] = String(current.getElement(names[i]));
    }
    return out;
  },

  extras: function (table) {
    var out = [];
    var entries = String(gs.getProperty('sorrel.push.fields', '')).split(',');
    for (var i = 0; i < entries.length; i++) {
      var parts = entries[i].replace(/\s/g, '').split('.');
      if (parts[0] === table && parts[1]) out.push(parts[1]);
    }
    return out;
  },

  post: function (body, stamp) {
    var request = new sn_ws.RESTMessageV2();
    request.setEndpoint(gs.getProperty('sorrel.push.url'));
    request.setHttpMethod('post');
    request.setRequestHeader('Content-Type', 'application/json');
    request.setRequestHeader('X-Sorrel-Timestamp', stamp);
    request.setRequestHeader('X-Sorrel-Signature', 'v1=' + this.hex(this.sign(stamp + '.' + body)));
    request.setRequestBody(body);
    request.executeAsync();
  },

  /** Base64 of the HMAC-SHA256. The key is handed over in Base64. */
  sign: function (text) {
    var secret = String(gs.getProperty('sorrel.push.secret', ''));
    if (secret.length < 16) throw 'property sorrel.push.secret needs at least 16 characters';
    return String(new GlideCertificateEncryption().generateMac(GlideStringUtil.base64Encode(secret), 'HmacSHA256', text));
  },

  /** All characters above ASCII escaped, so that signing and sending cannot disagree about an encoding. */
  ascii: function (json) {
    return json.replace(/[^\x00-\x7e]/g, function (c) { return '\\u' + ('0000' + c.charCodeAt(0).toString(16)).slice(-4); });
  },

  hex: function (base64) {
    var digits = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/';
    var bits = 0, held = 0, out = '';
    for (var i = 0; i < base64.length && base64.charAt(i) !== '='; i++) {
      held = (held << 6 | digits.indexOf(base64.charAt(i))) & 0xffff;
      bits += 6;
      if (bits >= 8) {
        bits -= 8;
        out += ('0' + (held >> bits & 0xff).toString(16)).slice(-2);
      }
    }
    return out;
  },

  type: 'SorrelPush'
};
