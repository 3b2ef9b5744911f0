// Package templatetest holds the tests of what is deployed and of how it is started: template.yaml by its rules, by
// cfn-lint and by the SAM translator, samconfig.toml, the Makefile's build targets, the runbooks and the sample
// events. There is nothing in it to import.
package templatetest
