package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"lasthop/internal/writer"
	"lasthop/report"
	"lasthop/routing/host"

	"golang.org/x/sys/unix"
)

// errNoDaemon means that no daemon answers in the network namespace.
var errNoDaemon = errors.New("no lasthop runs in this network namespace")

// ask sends a request to the daemon and decodes its answer. It returns
// errNoDaemon if there is none.
func (a *app) ask(k *host.Kernel, method, path string, body, into any) error {
	sent, err := json.Marshal(body)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: syncTimeout + 5*time.Second,
		Transport: &http.Transport{DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx,
					"unix", a.socketPath(k))
			}}}
	req, err := http.NewRequest(method, "http://lasthop"+path, bytes.NewReader(sent))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", gobType)
	resp, err := client.Do(req)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return errNoDaemon
	}
	if err != nil {
		return fmt.Errorf("ask lasthop run: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if err := gob.NewDecoder(resp.Body).Decode(into); err != nil {
		return hint(fmt.Errorf("read the answer of lasthop run: %w", err),
			"is it another version? systemctl restart lasthop")
	}
	failed := refusal{resp.Header.Get("Lasthop-Error"), resp.Header.Get("Lasthop-Hint")}
	return failed.error()
}

// refused makes an error of a refusal as if it had come about here.
func refused(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	var r refusal
	if err := json.Unmarshal(data, &r); err != nil || r.Message == "" {
		return fmt.Errorf("lasthop run answers %s", resp.Status)
	}
	return r.error()
}

func (r refusal) error() error {
	switch {
	case r.Message == "":
		return nil
	case r.Remedy == "":
		return errors.New(r.Message)
	}
	return hint(errors.New(r.Message), r.Remedy)
}

// askApply lets the daemon do what apply is to do, since it is the one writer.
// What the daemon cannot know is refused.
func (a *app) askApply(k *host.Kernel, f applying) error {
	switch {
	case f.confirm > 0:
		return hint(errors.New("lasthop run is at work in this network namespace: "+
			"--confirm cannot take back what it keeps"),
			"systemctl stop lasthop (the routes stay), then again")
	case a.flags.decides():
		return a.refuseBeside("apply with settings of its own")
	}
	var result report.Apply
	err := a.ask(k, http.MethodPost, pathSync,
		syncRequest{Expect: f.expect, NoDelete: f.noDelete,
			Sudoer: writer.Sudoer()}, &result)
	if err != nil && len(result.Done) == 0 {
		return err
	}
	return errors.Join(err, a.ui.print(result, a.flags.output))
}

// refuseBeside refuses a command that would work against the daemon.
func (a *app) refuseBeside(what string) error {
	return hint(fmt.Errorf("lasthop run is at work in this network namespace: %s would work "+
		"against it", what), "systemctl stop lasthop (the routes stay), then again")
}

// daemonRuns says whether it is a daemon that holds the lock: its socket takes
// connections.
func (a *app) daemonRuns(k *host.Kernel) bool {
	c, err := net.DialTimeout("unix", a.socketPath(k), 5*time.Second)
	if err == nil {
		c.Close()
	}
	return err == nil
}
