// Package plus asks the API of NGINX Plus how often NGINX has loaded its
// configuration. The API is that of the module ngx_http_api_module: GET of its
// address lists the versions that it speaks, and VERSION/nginx tells of the
// process that answers.
package plus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"lasthop/internal/hint"
)

// Answer is what the API says of NGINX. The processes are those of the PID
// namespace that NGINX runs in.
type Answer struct {
	Generation int       `json:"generation"` // counts the loads of the configuration
	Loaded     time.Time `json:"load_timestamp"`
	PID        int       `json:"pid"`  // of the worker that answers
	Master     int       `json:"ppid"` // its parent
}

// unix is what the address of an API on a unix socket begins with, as in
// NGINX's proxy_pass: http://unix:/run/nginx-api.sock:/api.
const unix = "http://unix:"

// split takes an address apart: the path of a unix socket, "" for none, and the
// URL to ask.
func split(address string) (socket, to string) {
	rest, ok := strings.CutPrefix(address, unix)
	if !ok {
		return "", strings.TrimSuffix(address, "/")
	}
	socket, path, _ := strings.Cut(rest, ":")
	return socket, "http://localhost" + strings.TrimSuffix(path, "/")
}

// Check returns an error unless an address can be that of an API: an http or
// https URL, or http://unix:SOCKET:PATH. It refuses a password, because
// findings and logs name the address.
func Check(address string) error {
	socket, to := split(address)
	u, err := url.Parse(to)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
		strings.HasPrefix(address, unix) && !strings.HasPrefix(socket, "/"):
		return hint.New(fmt.Errorf("%q is not the address of an API", address),
			"write it as http://127.0.0.1:8080/api or http://unix:/run/api.sock:/api")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return hint.New(errors.New("an API's address has no user, query or fragment"),
			"let NGINX allow this host: allow 127.0.0.1; deny all;")
	}
	return nil
}

const (
	mostTime = 3 * time.Second // of Ask
	mostText = 64 << 10        // of the head of an answer, and of its body, in bytes
)

// Ask asks the API at an address for 3 s at most. It opens new connections: an
// old worker goes on to serve those that it has. It follows no redirect, and
// uses no proxy.
func Ask(ctx context.Context, address string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, mostTime)
	defer cancel()
	socket, to := split(address)
	dial := (&net.Dialer{}).DialContext
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		MaxResponseHeaderBytes: mostText,
		DialContext: func(ctx context.Context, network, at string) (net.Conn, error) {
			if socket != "" {
				network, at = "unix", socket
			}
			return dial(ctx, network, at)
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
	var versions []int
	if err := get(ctx, &client, to+"/", &versions); err != nil {
		return Answer{}, err
	}
	if len(versions) == 0 {
		return Answer{}, fmt.Errorf("ask %s: it names no version of the API", address)
	}
	var a Answer
	err := get(ctx, &client, fmt.Sprintf("%s/%d/nginx", to, slices.Max(versions)), &a)
	if err == nil && a.Master == 0 {
		err = fmt.Errorf("ask %s: the answer names no master process", address)
	}
	return a, err
}

// get reads a JSON document. An error holds little of what the server chose.
func get(ctx context.Context, c *http.Client, from string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fmt.Errorf("ask NGINX Plus: %w", err)
	}
	answer, err := c.Do(r)
	if err != nil {
		return fmt.Errorf("ask NGINX Plus: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("ask NGINX Plus: %s: %d %s", from, answer.StatusCode,
			http.StatusText(answer.StatusCode))
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, mostText)).Decode(into); err != nil {
		return fmt.Errorf("ask NGINX Plus: %s: not an answer of the API: %.100v", from, err)
	}
	return nil
}
