(function executeRule(current, previous) {
  new SorrelPush().send(current);
})(current, previous);
