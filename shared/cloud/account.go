package cloud

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"sorrel/shared/fault"
	"sorrel/shared/queue"
)

// Endpoints replace AWS's own addresses, for local servers and private endpoints. All serves every service that has
// none of its own here.
type Endpoints struct{ All, DynamoDB, SQS, Secrets, Events, Objects string }

// Settings of Open. It never prints its credentials.
type Settings struct {
	Region       string
	AccessKeyID  string
	SecretKey    string
	SessionToken string
	Endpoints    Endpoints
}

// Format implements fmt.Formatter for every verb: everything but the credentials.
func (s Settings) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "cloud.Settings(region %q, endpoints %+v, credentials redacted)", s.Region, s.Endpoints)
}

// MarshalText keeps the credentials out of JSON and structured logs.
func (s Settings) MarshalText() ([]byte, error) { return []byte(fmt.Sprint(s)), nil }

// FromEnv reads the variables that Lambda sets, and the SDKs' own AWS_ENDPOINT_URL and AWS_ENDPOINT_URL_<SERVICE>.
// https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime
func FromEnv(getenv func(string) string) Settings {
	return Settings{
		Region:       getenv("AWS_REGION"),
		AccessKeyID:  getenv("AWS_ACCESS_KEY_ID"),
		SecretKey:    getenv("AWS_SECRET_ACCESS_KEY"),
		SessionToken: getenv("AWS_SESSION_TOKEN"),
		Endpoints: Endpoints{
			All:      getenv("AWS_ENDPOINT_URL"),
			DynamoDB: getenv("AWS_ENDPOINT_URL_DYNAMODB"),
			SQS:      getenv("AWS_ENDPOINT_URL_SQS"),
			Secrets:  getenv("AWS_ENDPOINT_URL_SECRETS_MANAGER"),
			Events:   getenv("AWS_ENDPOINT_URL_EVENTBRIDGE"),
			Objects:  getenv("AWS_ENDPOINT_URL_S3"),
		},
	}
}

// Account opens adapters in one AWS account and region.
type Account struct {
	dynamo  *dynamodb.Client
	sqs     *sqs.Client
	secrets *secretsmanager.Client
	config  aws.Config // for clients that few need
	queues  *string    // endpoint of SQS, if not its own
	buses   *string    // endpoint of EventBridge, if not its own
	objects *string    // endpoint of S3, if not its own
}

// Open builds the clients by hand, without reading files or asking metadata services. With an endpoint for all
// services, region and credentials may be left out: local servers do not look at them.
func Open(s Settings) (*Account, error) {
	bad := func(field, detail, remedy string) error {
		return &fault.Error{Class: fault.Contract, Op: "cloud.open", Fields: []string{field}, Detail: detail, Remedy: remedy}
	}
	if s.Endpoints.All != "" {
		if s.Region == "" {
			s.Region = "us-east-1"
		}
		if s.AccessKeyID == "" && s.SecretKey == "" {
			s.AccessKeyID, s.SecretKey = "local", "local"
		}
	}
	switch {
	case s.Region == "":
		return nil, bad("AWS_REGION", "is not set", "set it to the region of the stack, such as eu-west-1")
	case s.AccessKeyID == "":
		return nil, bad("AWS_ACCESS_KEY_ID", "is not set", "outside Lambda use a profile or export credentials")
	case s.SecretKey == "":
		return nil, bad("AWS_SECRET_ACCESS_KEY", "is not set", "outside Lambda use a profile or export credentials")
	}
	cfg := aws.Config{
		Region: s.Region,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: s.AccessKeyID, SecretAccessKey: s.SecretKey, SessionToken: s.SessionToken,
				Source: "cloud.Settings"}, nil
		}),
		// For the calls that caller.do does not make (CreateTable and the like).
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = 3 })
		},
	}
	return NewAccount(cfg, s.Endpoints)
}

// NewAccount opens an account from an SDK configuration that somebody else loaded; see cloud/cliconfig.
func NewAccount(cfg aws.Config, e Endpoints) (*Account, error) {
	base := func(own string) (*string, error) {
		if own == "" {
			own = e.All
		}
		if own == "" {
			return nil, nil
		}
		if u, err := url.Parse(own); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return nil, &fault.Error{Class: fault.Contract, Op: "cloud.open", Fields: []string{"endpoint URL"},
				Detail: fmt.Sprintf("%q is not an absolute http or https URL", own), Remedy: "write it like http://127.0.0.1:8000"}
		}
		return &own, nil
	}
	forDynamo, err := base(e.DynamoDB)
	if err != nil {
		return nil, err
	}
	forSQS, err := base(e.SQS)
	if err != nil {
		return nil, err
	}
	forSecrets, err := base(e.Secrets)
	if err != nil {
		return nil, err
	}
	forEvents, err := base(e.Events)
	if err != nil {
		return nil, err
	}
	forObjects, err := base(e.Objects)
	if err != nil {
		return nil, err
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = httpClient()
	}
	return &Account{config: cfg, queues: forSQS, buses: forEvents, objects: forObjects,
		dynamo: dynamodb.NewFromConfig(cfg, func(o *dynamodb.Options) {
			if forDynamo != nil {
				o.BaseEndpoint = forDynamo
			}
		}),
		sqs: sqs.NewFromConfig(cfg, func(o *sqs.Options) {
			if forSQS != nil {
				o.BaseEndpoint = forSQS
			}
		}),
		secrets: secretsmanager.NewFromConfig(cfg, func(o *secretsmanager.Options) {
			if forSecrets != nil {
				o.BaseEndpoint = forSecrets
			}
		}),
	}, nil
}

// httpClient bounds connecting; Calls.Timeout bounds each attempt. Keep-alive is on, with room for the parallel
// reads of one process: the SDK's default of ten idle connections a host would reopen TLS under load.
func httpClient() aws.HTTPClient {
	return awshttp.NewBuildableClient().
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = 2 * time.Second }).
		WithTransportOptions(func(t *http.Transport) { t.MaxIdleConnsPerHost = 64 })
}

// Store returns the store kept in table.
func (a *Account) Store(table string, o StoreOptions) *Store { return NewStore(a.dynamo, table, o) }

// Queue returns the queue at url.
func (a *Account) Queue(url string, c Calls) *Queue { return NewQueue(a.sqs, url, c) }

// QueueOf returns the queue of an ARN, which may be in another region or account, FIFO or not.
func (a *Account) QueueOf(arn string, c Calls) (*Queue, error) {
	parts := strings.Split(arn, ":") // arn, partition, sqs, region, account, name
	if len(parts) != 6 || parts[2] != "sqs" {
		return nil, &fault.Error{Class: fault.Contract, Op: "cloud.queue", ID: arn, Detail: "is no ARN of a queue", Remedy: "write it like arn:aws:sqs:eu-west-1:123456789012:orders.fifo"}
	}
	host := "https://sqs." + parts[3] + ".amazonaws.com"
	if parts[1] == "aws-cn" {
		host += ".cn"
	}
	if a.queues != nil {
		host = strings.TrimSuffix(*a.queues, "/")
	}
	api := a.sqs
	if parts[3] != a.config.Region {
		api = sqs.NewFromConfig(a.config, func(o *sqs.Options) { o.Region, o.BaseEndpoint = parts[3], a.queues })
	}
	return NewQueue(api, host+"/"+parts[4]+"/"+parts[5], c), nil
}

// ForObjects is what cloud/bucket makes its client of: the configuration, and the endpoint of S3 if it is not its own.
func (a *Account) ForObjects() (aws.Config, *string) { return a.config, a.objects }

// Secrets returns the reader of one secret.
func (a *Account) Secrets(id string, c Calls) *Secrets { return NewSecrets(a.secrets, id, c) }

// CreateTable makes the table, with expiry on; see the function of that name.
func (a *Account) CreateTable(ctx context.Context, name string) error {
	if err := CreateTable(ctx, a.dynamo, name); err != nil {
		return err
	}
	return EnableTTL(ctx, a.dynamo, name)
}

// CreateQueues makes queues; see the function of that name.
func (a *Account) CreateQueues(ctx context.Context, settings ...queue.Settings) ([]QueueURLs, error) {
	return CreateQueues(ctx, a.sqs, settings...)
}
