// Package process holds the processes of the product: each is a workflow.Definition, whose steps are goals over records.
// It is pure: what runs them is flow/workflow.
package process

import "sorrel/shared/workflow"

// Book holds all definitions, with the old versions of which runs may be open.
func Book() (*workflow.Book, error) { return workflow.NewBook() }
