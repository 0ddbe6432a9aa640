package nstest

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Peer is an end of a WireGuard tunnel: a namespace, and the address there that
// the other end sends to.
type Peer struct {
	NS   *NS
	Addr string
}

// WireGuard makes the links of that name each other's peers, for all addresses.
// Without wg(8) it skips the test.
func WireGuard(t testing.TB, link string, a, b Peer) {
	t.Helper()
	if _, err := exec.LookPath("wg"); err != nil {
		t.Skip(err)
	}
	keyA, keyB := key(t), key(t)
	join := func(p Peer, own, other *ecdh.PrivateKey, endpoint string) {
		file := filepath.Join(t.TempDir(), "key")
		text := base64.StdEncoding.EncodeToString(own.Bytes())
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		p.NS.Run("wg", "set", link, "listen-port", "51820", "private-key", file, "peer",
			base64.StdEncoding.EncodeToString(other.PublicKey().Bytes()),
			"allowed-ips", "0.0.0.0/0,::/0", "endpoint", endpoint+":51820")
	}
	join(a, keyA, keyB, b.Addr)
	join(b, keyB, keyA, a.Addr)
}

func key(t testing.TB) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
