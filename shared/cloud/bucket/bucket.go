// Package bucket gives the objects of one S3 bucket below a prefix as files to load. It stands apart from package cloud so
// that only the function that needs it carries S3's client.
package bucket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"sorrel/shared/cloud"
	"sorrel/shared/deadline"
	"sorrel/shared/fault"
	"sorrel/shared/flow/load"
)

// Bucket is load.Source over one bucket. It only reads.
type Bucket struct {
	client       *s3.Client
	name, prefix string
	pause        time.Duration // before what was cut off is asked for again, doubled each time
}

var _ load.Source = (*Bucket)(nil)

// Open returns the objects of a bucket whose keys begin with a prefix. pause is the wait before what was cut off is asked for
// again; 0 means 200 ms.
func Open(account *cloud.Account, name, prefix string, pause time.Duration) *Bucket {
	if pause == 0 {
		pause = 200 * time.Millisecond
	}
	config, endpoint := account.ForObjects()
	return &Bucket{name: name, prefix: prefix, pause: pause, client: s3.NewFromConfig(config, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = endpoint, endpoint != nil                // a local server has no host per bucket
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // a part has no checksum of its own
		o.Retryer = aws.NopRetryer{}                                              // again does it
	})}
}

// List implements load.Source. An object's name is the last part of its key; what begins with a dot, and what stands for a
// folder, is passed over. Objects are written whole, so none of them is half a file.
func (b *Bucket) List(ctx context.Context) ([]load.File, error) {
	var out []load.File
	pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: &b.prefix})
	for pages.HasMorePages() {
		var page *s3.ListObjectsV2Output
		err := b.again(ctx, func() (err error) {
			if page, err = pages.NextPage(ctx); err != nil {
				err = b.fault(ctx, "bucket.list", b.prefix, err)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, o := range page.Contents {
			key, tag, size := aws.ToString(o.Key), aws.ToString(o.ETag), aws.ToInt64(o.Size)
			if name := path.Base(key); !strings.HasSuffix(key, "/") && !strings.HasPrefix(name, ".") {
				changed := aws.ToTime(o.LastModified)
				out = append(out, load.File{Name: name, Changed: changed, Same: fmt.Sprintf("s3://%s/%s %s %d", b.name, key, tag, changed.UnixMilli()),
					Open: func(ctx context.Context) (io.ReadCloser, error) {
						return &object{b: b, ctx: ctx, key: key, tag: tag, size: size}, nil
					}})
			}
		}
	}
	return out, nil
}

// attempts is how often in a row S3 is asked without an answer.
const attempts = 6

// again asks until there is an answer.
func (b *Bucket) again(ctx context.Context, ask func() error) error {
	for n := 0; ; n++ {
		err := ask()
		if !fault.Is(err, fault.Down) || n+1 >= attempts || deadline.Pause(ctx, b.pause<<n) != nil {
			return err
		}
	}
}

// object streams one version of one object. A connection that is cut, or closed because nobody read for a while, is no end: it
// goes on with the next byte, of the same version.
type object struct {
	b        *Bucket
	ctx      context.Context
	key, tag string
	at, size int64
	body     io.ReadCloser
}

// Read implements io.Reader.
func (o *object) Read(p []byte) (n int, _ error) {
	if o.at >= o.size {
		return 0, io.EOF
	}
	err := o.b.again(o.ctx, func() error {
		if err := o.open(); err != nil {
			return err
		}
		var err error
		n, err = o.body.Read(p)
		if o.at += int64(n); err == nil {
			return nil
		}
		o.drop()
		if n > 0 {
			return nil
		}
		return fault.Wrap(fault.Down, "bucket.read", o.key, err)
	})
	return n, err
}

// open asks for what is left.
func (o *object) open() error {
	if o.body != nil {
		return nil
	}
	left := fmt.Sprintf("bytes=%d-%d", o.at, o.size-1)
	got, err := o.b.client.GetObject(o.ctx, &s3.GetObjectInput{Bucket: &o.b.name, Key: &o.key, IfMatch: &o.tag, Range: &left})
	if err != nil {
		return o.b.fault(o.ctx, "bucket.read", o.key, err)
	}
	o.body = got.Body
	return nil
}

func (o *object) drop() {
	if o.body != nil {
		_ = o.body.Close() // it was only read
	}
	o.body = nil
}

// Close implements io.Closer.
func (o *object) Close() error { o.drop(); return nil }

// fault classifies what S3 answered. https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
func (b *Bucket) fault(ctx context.Context, op, key string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s(%s): %w: %w", op, key, ctx.Err(), err)
	}
	e := &fault.Error{Class: fault.Down, Op: op, ID: b.name + "/" + key, Err: err}
	if api := smithy.APIError(nil); errors.As(err, &api) {
		e.Code = api.ErrorCode()
	}
	if answer := (*smithyhttp.ResponseError)(nil); errors.As(err, &answer) {
		switch answer.HTTPStatusCode() {
		case http.StatusForbidden:
			e.Class, e.Remedy = fault.Forbidden, "let the function read the object: its key's policy if it is encrypted with a key of yours, its storage class if it is archived"
		case http.StatusNotFound:
			e.Class, e.Remedy = fault.NotFound, "check the bucket's name; an object that was taken away is not missed"
		case http.StatusPreconditionFailed:
			e.Class, e.Detail = fault.Conflict, "the object was replaced while it was read"
		case http.StatusBadRequest, http.StatusMovedPermanently:
			e.Class, e.Remedy = fault.Internal, "check the region and the credentials"
		}
	}
	return e
}
