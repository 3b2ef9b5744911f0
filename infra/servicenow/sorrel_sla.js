/*
 * Marks a case whose SLA is breached. Business rule on task_sla, after insert and update. The mark is a fact about the
 * case's past: nothing takes it away again. Its save runs the case's own rule, which posts it.
 */
(function executeRule(current, previous) {
  try {
    if (String(current.getElement('has_breached')) !== 'true') return;
    var found = new GlideRecord('sn_customerservice_case'); // an incident's SLA finds none
    if (!found.get(String(current.getValue('task'))) || String(found.getElement('u_sla_breached')) === 'true') return;
    found.setValue('u_sla_breached', 'true');
    found.update();
  } catch (e) {
    gs.error('Sorrel: ' + e);
  }
})(current, previous);
