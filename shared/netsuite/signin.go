package netsuite

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"sorrel/shared/fault"
	"sorrel/shared/vendorhttp"
)

// tokenPath is under the account's host.
// https://docs.oracle.com/en/cloud/saas/netsuite/ns-online-help/section_162790605110.html
const tokenPath = "/services/rest/auth/oauth2/v1/token"

// signer makes client assertions.
type signer struct {
	clientID, certificateID, audience string
	method                            jwt.SigningMethod
	key                               crypto.Signer
	now                               func() time.Time
}

func newSigner(c Credentials, audience string, now func() time.Time) (*signer, error) {
	var problems []error
	for name, v := range map[string]string{"clientId": c.ClientID, "certificateId": c.CertificateID, "privateKey": c.PrivateKey} {
		if v == "" {
			problems = append(problems, fmt.Errorf("credentials: %s is missing", name))
		}
	}
	s := &signer{clientID: c.ClientID, certificateID: c.CertificateID, audience: audience, now: now}
	if c.PrivateKey != "" {
		var err error
		if s.key, s.method, err = parseKey(c.PrivateKey); err != nil {
			problems = append(problems, fmt.Errorf("credentials: privateKey: %w", err))
		}
	}
	return s, errors.Join(problems...)
}

func parseKey(text string) (crypto.Signer, jwt.SigningMethod, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, nil, errors.New("not PEM; want -----BEGIN PRIVATE KEY-----")
	}
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("PEM block %q is not a readable private key", block.Type)
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return nil, nil, fmt.Errorf("RSA key of %d bits; NetSuite wants 3072 or 4096", k.N.BitLen())
		}
		return k, jwt.SigningMethodPS256, nil
	case *ecdsa.PrivateKey:
		switch k.Curve.Params().BitSize {
		case 256:
			return k, jwt.SigningMethodES256, nil
		case 384:
			return k, jwt.SigningMethodES384, nil
		case 521:
			return k, jwt.SigningMethodES512, nil
		}
	}
	return nil, nil, errors.New("want an RSA or a P-256, P-384 or P-521 key")
}

// clocksDiffer is how much NetSuite's clock may differ from ours: as much as with webhooks. An assertion from what is the
// future there is refused.
const clocksDiffer = 5 * time.Minute

// assertion signs one. NetSuite accepts it for less than an hour.
func (s *signer) assertion() (string, error) {
	now := s.now()
	t := jwt.NewWithClaims(s.method, jwt.MapClaims{
		"iss": s.clientID, "scope": "rest_webservices", "aud": s.audience,
		"iat": now.Add(-clocksDiffer).Unix(), "exp": now.Add(clocksDiffer).Unix(),
	})
	t.Header["kid"] = s.certificateID
	return t.SignedString(s.key)
}

// signIn fetches an access token. NetSuite gives no refresh token: every token takes a new assertion.
func (c *Connector) signIn(ctx context.Context, s *signer) (vendorhttp.Token, error) {
	assertion, err := s.assertion()
	if err != nil {
		return vendorhttp.Token{}, fault.Wrap(fault.Unauthenticated, "netsuite.sign-in", "", err)
	}
	form := url.Values{
		"grant_type":            {"client_credentials"},
		"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		"client_assertion":      {assertion},
	}
	resp, err := c.client.Do(ctx, vendorhttp.Request{
		Op: "sign-in", Method: http.MethodPost, Path: tokenPath, NoAuth: true, Body: []byte(form.Encode()), Secrets: []string{assertion},
		Header: http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
	})
	if err != nil {
		return vendorhttp.Token{}, err
	}
	grant, err := vendorhttp.ParseGrant("netsuite.sign-in", resp.Body, s.now())
	return grant.Token, err
}
