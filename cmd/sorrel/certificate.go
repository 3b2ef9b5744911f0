package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"sorrel/shared/certificate"
	"sorrel/shared/fault"
)

// certificateGet fetches a certificate as it was signed.
type certificateGet struct {
	ID string `arg:"" help:"Run."`
	asking
}

// Run prints it, byte for byte.
func (c certificateGet) Run(ctx binding, s screen) error {
	file, err := c.answer(ctx, question{method: http.MethodGet, path: reconciliation(c.ID) + "/certificate"})
	if err == nil {
		_, err = s.out.Write(file)
	}
	return err
}

// certificateVerify checks a file by itself: no process, stack or network is asked.
type certificateVerify struct {
	File string `arg:"" help:"The certificate; - for standard input."`
	Key  string `help:"Public key, or several, in PEM: the output of sorrel reconcile key, from whom you trust. Without it anybody's key will do."`
	JSON bool   `help:"Print JSON."`
}

// verified is what checking a certificate came to.
type verified struct {
	Intact    bool                  `json:"intact"`  // not a byte differs from what was signed
	Trusted   bool                  `json:"trusted"` // the key is one of those given
	Complete  bool                  `json:"complete"`
	Open      []string              `json:"open,omitempty"` // why it is not complete
	Hash      string                `json:"sha256"`
	Statement certificate.Statement `json:"statement"`
}

// Run fails unless the certificate is as it was signed, by a key that was given if any was.
func (c certificateVerify) Run(s screen) error {
	file, err := readUpTo(c.File, certificate.MaxBytes)
	if err != nil {
		return err
	}
	var keys []certificate.PublicKey
	if c.Key != "" {
		text, err := readUpTo(c.Key, certificate.MaxBytes)
		if err != nil {
			return err
		}
		if keys, err = certificate.ReadPublicKeys(text); err != nil {
			return err
		}
	}
	read, err := certificate.Read(file)
	if err == nil {
		err = read.Verify(keys...)
	}
	if err != nil {
		return err
	}
	v := verified{Intact: true, Trusted: len(keys) > 0, Open: read.Statement.Open(), Hash: read.Hash(), Statement: read.Statement}
	v.Complete = len(v.Open) == 0
	if c.JSON {
		return s.json(v)
	}
	v.print(s)
	return nil
}

func (v verified) print(s screen) {
	st := v.Statement
	if v.Trusted {
		s.printf("%s\n", s.paint(green, "verified: signed by the key "+certificate.Short(st.Key)+", which is one that was given, and not altered since"))
	} else {
		s.printf("%s\n", s.paint(amber, "not altered since it was signed by the key "+certificate.Short(st.Key)))
		s.printf("whose key that is was not checked: give --key\n")
	}
	at := func(t time.Time) string { return t.UTC().Format(time.DateTime) }
	s.printf("run %s, mode %s, by %s\n%s to %s UTC; policy %s, configuration %s\n", st.Run, st.Mode, st.By, at(st.Started), at(st.Ended), st.Policy, st.Config)
	if v.Complete {
		s.printf("%s\n", s.paint(green, "complete, says it"))
	} else {
		s.printf("%s\n", s.paint(amber, "not complete, says it:"))
	}
	for _, o := range v.Open {
		s.printf("  %s\n", o)
	}
	var rows [][]string
	unlisted := 0
	for _, set := range st.Sets {
		found, healed, excepted := 0, 0, 0
		for _, d := range set.Drift {
			found, healed, excepted = found+d.Found, healed+d.Healed, excepted+d.Excepted
		}
		unlisted += len(set.Exceptions) + set.Unlisted
		rows = append(rows, []string{set.Platform, set.Object, fmt.Sprint(set.There), fmt.Sprint(set.Equal), fmt.Sprint(found), fmt.Sprint(healed), fmt.Sprint(excepted), certificate.Short(set.Hub.Hash)})
	}
	s.table([]string{"platform", "object", "there", "equal", "differ", "healed", "people", "root"}, rows)
	if unlisted > 0 {
		s.printf("%d exception(s) for people; --json lists them\n", unlisted)
	}
	if st.Previous != "" {
		s.printf("the certificate before it has the SHA-256 %s…\n", certificate.Short(st.Previous))
	}
}

// readUpTo reads a file, or standard input, of at most so many bytes.
func readUpTo(name string, most int64) ([]byte, error) {
	in := io.Reader(os.Stdin)
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fault.Wrap(fault.NotFound, "reconcile", name, err)
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, most+1))
	if err != nil {
		return nil, fault.Wrap(fault.Malformed, "reconcile", name, err)
	}
	if int64(len(b)) > most {
		return nil, &fault.Error{Class: fault.TooLarge, Op: "reconcile", ID: name, Detail: fmt.Sprintf("more than %d bytes", most), Remedy: "name a certificate, or keys in PEM"}
	}
	return b, nil
}

// certificateKey publishes keys, or makes one.
type certificateKey struct {
	asking
	New string `placeholder:"FILE" help:"Make a key: the private one goes to this new file, for the secret; the public one is printed."`
	Of  string `placeholder:"FILE" help:"Print the public key of the private one in this file."`
}

// Run prints public keys in PEM.
func (c certificateKey) Run(ctx binding, s screen) error {
	if c.New != "" && c.Of != "" {
		return errors.New("--new and --of exclude each other")
	}
	var key *certificate.Key
	var err error
	switch {
	case c.New != "":
		key, err = makeKey(c.New)
	case c.Of != "":
		var text []byte
		if text, err = readUpTo(c.Of, certificate.MaxBytes); err == nil {
			key, err = certificate.ReadKey(text)
		}
	default:
		var published publishedKeys
		if asJSON, err := c.ask(ctx, s, question{method: http.MethodGet, path: "/v1/reconciliations/keys"}, &published); err != nil || asJSON {
			return err
		}
		for _, k := range published.Keys {
			s.printf("%s", k.PEM)
		}
		return nil
	}
	if err != nil {
		return err
	}
	text, err := key.Public().PEM()
	if err != nil {
		return err
	}
	s.printf("%s", text)
	return nil
}

// publishedKeys are those that certificates were signed with, the newest first.
type publishedKeys struct {
	Keys []struct {
		ID  string `json:"id"`
		PEM string `json:"pem"`
	} `json:"keys"`
}

// makeKey writes a new private key where there is nothing yet.
func makeKey(file string) (*certificate.Key, error) {
	key, err := certificate.NewKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := key.PEM()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fault.Wrap(fault.Refused, "reconcile.key", file, err)
	}
	if _, err := f.Write(text); err != nil {
		return nil, fault.Wrap(fault.Down, "reconcile.key", file, errors.Join(err, f.Close()))
	}
	return key, fault.Wrap(fault.Down, "reconcile.key", file, f.Close())
}
