package boot

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
)

func TestKeyInAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	one, err := fileKey(dir)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two, err := fileKey(dir)(t.Context())
	if err != nil || !one.Public().Equal(two.Public()) {
		t.Errorf("the key is another after a restart: %v", err)
	}
	file := filepath.Join(dir, "certificate-key.pem")
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's file: %v, %v", info, err)
	}
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fileKey(dir)(t.Context()); !fault.Is(err, fault.Contract) {
		t.Errorf("a broken file: %v", err)
	}
}

func TestKeyInTheSecret(t *testing.T) {
	t.Parallel()
	key, err := certificate.NewKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	got, err := secretKey(&vault{values: map[string][]string{CertificateSecret: {string(text), "the one before"}}})(t.Context())
	if err != nil || !got.Public().Equal(key.Public()) {
		t.Errorf("read %v, %v", got, err)
	}
	if got, err := secretKey(&vault{})(t.Context()); got != nil || err != nil {
		t.Errorf("without one: %v, %v", got, err)
	}
	if _, err := secretKey(&vault{values: map[string][]string{CertificateSecret: {"{}"}}})(t.Context()); !fault.Is(err, fault.Contract) {
		t.Errorf("one that is no key: %v", err)
	}
}
