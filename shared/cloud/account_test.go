package cloud_test

import (
	"strings"
	"testing"

	"sorrel/shared/cloud"
	"sorrel/shared/cloud/cliconfig"
	"sorrel/shared/fault"
)

func TestOpenNamesWhatIsMissing(t *testing.T) {
	full := map[string]string{"AWS_REGION": "eu-west-1", "AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "s"}
	open := func(change map[string]string) error {
		_, err := cloud.Open(cloud.FromEnv(func(name string) string {
			if v, ok := change[name]; ok {
				return v
			}
			return full[name]
		}))
		return err
	}
	if err := open(nil); err != nil {
		t.Fatal(err)
	}
	for name := range full {
		if err := open(map[string]string{name: ""}); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_SECRETS_MANAGER"} {
		for _, bad := range []string{"localhost:8000", "ftp://h", "http://", "://"} {
			if err := open(map[string]string{name: bad}); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), bad) {
				t.Errorf("%s=%s: %v", name, bad, err)
			}
		}
		if err := open(map[string]string{name: "http://127.0.0.1:8000"}); err != nil {
			t.Error(err)
		}
	}
}

func TestCommandLineConfiguration(t *testing.T) {
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_PROFILE", "")
	if _, err := cliconfig.Open(t.Context(), "", "eu-west-1", "http://127.0.0.1:8000"); err != nil {
		t.Error(err)
	}
	if _, err := cliconfig.Open(t.Context(), "", "", ""); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "region") {
		t.Errorf("without a region: %v", err)
	}
	if _, err := cliconfig.Open(t.Context(), "nobody", "eu-west-1", ""); !fault.Is(err, fault.Contract) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("unknown profile: %v", err)
	}
}
