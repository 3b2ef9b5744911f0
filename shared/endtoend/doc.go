// Package endtoend holds the tests of the whole: twins, host, functions, store and queues together. One carries the
// Northwind data to both targets, one tells the story over real servers of AWS's protocols, one counts over the
// same what each kind of change costs, one kills the process again and again, one counts what is left after a close.
// There is nothing in it to import.
package endtoend
