package boot

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
)

// CertificateSecret is the name in the stack's secret under which the key stands that signs certificates of reconciliation.
const CertificateSecret = "certificate"

// secretKey reads the key from the secret, whenever a certificate is signed: a rotation takes effect without a deployment.
// Without one there are no certificates.
func secretKey(s Secrets) func(context.Context) (*certificate.Key, error) {
	return func(ctx context.Context) (*certificate.Key, error) {
		values, err := s.Secrets(ctx)
		if err != nil || len(values[CertificateSecret]) == 0 {
			return nil, err
		}
		return certificate.ReadKey([]byte(values[CertificateSecret][0]))
	}
}

// fileKey keeps the key of one process beside its store, and makes it at first need.
func fileKey(dir string) func(context.Context) (*certificate.Key, error) {
	file := filepath.Join(dir, "certificate-key.pem")
	return func(context.Context) (*certificate.Key, error) {
		text, err := os.ReadFile(file)
		if err == nil {
			return certificate.ReadKey(text)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return nil, fault.Wrap(fault.Down, "boot.certificate", file, err)
		}
		key, err := certificate.NewKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		if text, err = key.PEM(); err != nil {
			return nil, err
		}
		// Whole or not at all: a key that a crash cut off would be no key.
		if err := os.WriteFile(file+".new", text, 0o600); err != nil {
			return nil, fault.Wrap(fault.Down, "boot.certificate", file, err)
		}
		return key, fault.Wrap(fault.Down, "boot.certificate", file, os.Rename(file+".new", file))
	}
}
