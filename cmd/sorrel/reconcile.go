package main

type reconcileCommand struct {
	Verify certificateVerify `cmd:"" help:"Check a completeness certificate, offline: altering one byte fails."`
	Key    certificateKey    `cmd:"" help:"Print the public keys of certificates, or make a key."`
}
