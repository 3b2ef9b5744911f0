// Package source reads configuration files and remembers where each thing stands, so that everything found
// wrong is reported at once, as file:line:column with a remedy.
package source

import "fmt"

// Problem is one thing wrong in a configuration file. Line and Column count from 1; 0 means the whole file.
type Problem struct {
	File         string `json:"file"`
	Line, Column int
	Message      string `json:"message"`
	Remedy       string `json:"remedy,omitempty"`
}

func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d:%d", p.Line, p.Column)
	}
	s += ": " + p.Message
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}
