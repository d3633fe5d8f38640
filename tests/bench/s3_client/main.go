// Clients that put and get objects of one size for some seconds, and what they got done in a second.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

func main() {
	endpoint := flag.String("endpoint", "", "host and port")
	bucket := flag.String("bucket", "", "bucket, which has to be there")
	size := flag.Int64("size", 0, "bytes of an object")
	clients := flag.Int("clients", 1, "how many at once, each with an object of its own")
	seconds := flag.Float64("seconds", 5, "how long to put, and then how long to get")
	flag.Parse()

	store, err := minio.New(*endpoint, &minio.Options{
		Creds:      credentials.NewEnvAWS(),
		Secure:     true,
		Region:     "us-east-1",
		MaxRetries: 1,
	})
	if err != nil {
		log.Fatal(err)
	}
	content := make([]byte, *size)
	if _, err := rand.Read(content); err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	put := func(name string) error {
		// In one request, as large as it is.
		options := minio.PutObjectOptions{DisableMultipart: true}
		_, err := store.PutObject(ctx, *bucket, name, bytes.NewReader(content), *size, options)
		return err
	}
	get := func(name string) error {
		object, err := store.GetObject(ctx, *bucket, name, minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		defer object.Close()
		read, err := io.Copy(io.Discard, object)
		if err == nil && read != *size {
			err = fmt.Errorf("%s: %d bytes of %d", name, read, *size)
		}
		return err
	}
	duration := time.Duration(*seconds * float64(time.Second))
	found := map[string]float64{"put": perSecond(*clients, duration, put), "get": perSecond(*clients, duration, get)}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		log.Fatal(err)
	}
}

// perSecond says how often a second the clients together did the work, each with the name of its own object.
// What each has begun in time it ends, and that counts with the time it takes.
func perSecond(clients int, duration time.Duration, work func(name string) error) float64 {
	var done atomic.Int64
	var group sync.WaitGroup
	begin := time.Now()
	for client := range clients {
		name := fmt.Sprintf("bench/%d", client)
		group.Go(func() {
			for time.Since(begin) < duration {
				if err := work(name); err != nil {
					log.Fatal(err)
				}
				done.Add(1)
			}
		})
	}
	group.Wait()
	return float64(done.Load()) / time.Since(begin).Seconds()
}
