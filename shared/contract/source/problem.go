// Package source reads configuration files and remembers where each thing stands, so that everything found
// wrong is reported at once, as file:line:column with a remedy.
package source

import "fmt"

// Problem is one thing wrong in a configuration file. Line and Column count from 1.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`
	Column  int    `json:"column"`
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

func (p Problem) String() string {
	s := fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
	if p.Remedy != "" {
		s += "; " + p.Remedy
	}
	return s
}
