package certificate

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"

	"sorrel/shared/fault"
)

// Key signs. It hides itself when printed.
type Key struct {
	private ed25519.PrivateKey
}

// PublicKey checks. The zero value checks nothing.
type PublicKey struct {
	key ed25519.PublicKey
}

// Names of PEM blocks: PKCS #8 and SubjectPublicKeyInfo, as openssl reads and writes them.
const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// NewKey makes a key from randomness.
func NewKey(random io.Reader) (*Key, error) {
	_, private, err := ed25519.GenerateKey(random)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "certificate.key", "", err)
	}
	return &Key{private}, nil
}

// ReadKey reads a private key in PEM, such as `openssl genpkey -algorithm ed25519` writes it. Its errors never hold any of it.
func ReadKey(text []byte) (*Key, error) {
	bad := func(detail string) error {
		return &fault.Error{Class: fault.Contract, Op: "certificate.key", Detail: detail, Remedy: "make one with `sorrel reconcile key --new FILE`"}
	}
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != privateBlock:
		return nil, bad("the key for certificates is no private key in PEM")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, bad("something follows the private key for certificates")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	private, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, bad("the private key for certificates is not an Ed25519 key in PKCS #8")
	}
	return &Key{private}, nil
}

// PEM is the private key, for keeping where secrets are kept.
func (k *Key) PEM() ([]byte, error) {
	b, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "certificate.key", "", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: b}), nil
}

// Public is the key to publish.
func (k *Key) Public() PublicKey { return PublicKey{k.private.Public().(ed25519.PublicKey)} }

// Format implements fmt.Formatter for every verb: the id without the key.
func (k *Key) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "certificate.Key(%s)", Short(k.Public().ID()))
}

// MarshalText keeps the key out of JSON and structured logs.
func (k *Key) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(k)), nil }

// Sign writes a statement as a certificate. The same statement gives the same bytes.
func (k *Key) Sign(s Statement) ([]byte, error) {
	s = s.plain()
	public := k.Public()
	s.Key = public.ID()
	if err := s.check(); err != nil {
		return nil, err
	}
	file, err := s.encode()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "certificate.sign", cut(s.Run), err)
	}
	last, err := seal{Public: public.key, Signature: ed25519.Sign(k.private, file)}.encode()
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "certificate.sign", cut(s.Run), err)
	}
	// What would not be read must not be handed out: a text that JSON cannot hold, or a year beyond 9999.
	file = append(file, last...)
	c, err := Read(file)
	if err == nil {
		err = c.Verify(public)
	}
	if err != nil {
		return nil, fault.Wrap(fault.Contract, "certificate.sign", cut(s.Run), err)
	}
	return file, nil
}

func publicKey(b []byte) (PublicKey, error) {
	if len(b) != ed25519.PublicKeySize {
		return PublicKey{}, broken(fmt.Sprintf("the public key has %d bytes, not %d", len(b), ed25519.PublicKeySize))
	}
	return PublicKey{b}, nil
}

// maxKeys bounds a file of public keys.
const maxKeys = 1000

// ReadPublicKeys reads one or more public keys in PEM, as PublicKey.PEM writes them: the present one and those before it.
func ReadPublicKeys(text []byte) ([]PublicKey, error) {
	bad := func(detail string) error {
		return &fault.Error{Class: fault.Malformed, Op: "certificate.key", Detail: detail, Remedy: "give the output of `sorrel reconcile key`"}
	}
	var out []PublicKey
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != publicBlock {
			return nil, bad(fmt.Sprintf("block %d is no public key", len(out)+1))
		}
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		key, ok := parsed.(ed25519.PublicKey)
		if err != nil || !ok {
			return nil, bad(fmt.Sprintf("block %d is no Ed25519 key", len(out)+1))
		}
		if out = append(out, PublicKey{key}); len(out) > maxKeys {
			return nil, bad(fmt.Sprintf("more than %d keys", maxKeys))
		}
	}
	if len(out) == 0 {
		return nil, bad("no public key in PEM")
	}
	return out, nil
}

// PEM is the key for a file.
func (p PublicKey) PEM() ([]byte, error) {
	b, err := x509.MarshalPKIXPublicKey(p.key)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "certificate.key", "", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: b}), nil
}

// ID names a key: the SHA-256 of its 32 bytes, in hexadecimal.
func (p PublicKey) ID() string {
	sum := sha256.Sum256(p.key)
	return hex.EncodeToString(sum[:])
}

// Short is an id as people compare it.
func Short(id string) string { return id[:min(len(id), 16)] }

// Equal reports whether it is the same key.
func (p PublicKey) Equal(o PublicKey) bool { return bytes.Equal(p.key, o.key) }

func (p PublicKey) verify(text, signature []byte) bool {
	return len(p.key) == ed25519.PublicKeySize && ed25519.Verify(p.key, text, signature)
}
