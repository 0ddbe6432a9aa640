package nginxconf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"lasthop/internal/hint"
)

// secrets are files that only root may read, of the kinds that there are.
var secrets = map[string]string{
	"shadow":      "rootly:$y$j9T$SALTsalt$HASHhash:20228:0:99999:7:::\ndaemonic:*:20228:0:99999:7:::\n",
	"key":         "-----BEGIN PRIVATE KEY-----\nMIIEvAIBADANBgkqhkiG9w0BAQEF\n-----END PRIVATE KEY-----\n",
	"htpasswd":    "alice:$apr1$q8eO$Kl3Jq1bR;bobby:x{yz}",
	"json":        `{"token": "hunter2", "user": {"name": "carol"}}`,
	"yaml":        "password: hunter2\nuser: carol\n",
	"environment": "PASSWORD='hunter2\nTOKEN=abcdef",
	"shell":       "if hunter2; then { secretly } fi",
	"lua":         "content_by_lua_block hunter2;",
	"map":         "map $hunter2 $carol { secretly } geo $carol { volatile; hunter2 { }",
	"quote":       `hunter2" is not terminated by ";" secretly`,
	"condition":   "if hunter2 $secretly { listen 80; }",
	"netrc":       "machine example login carol password hunter2",
}

// TestErrorsQuoteNothing: a user that may write an include can name any file.
// The error names file and line, and no word of its contents.
func TestErrorsQuoteNothing(t *testing.T) {
	word := regexp.MustCompile(`[A-Za-z0-9]{5,}`)
	common := "directive terminated opening parser understand unexpected enclosed condition " +
		"parentheses password machine volatile"
	for name, text := range secrets {
		for _, around := range []string{"%s", "http { %s }", "http { server { %s } }"} {
			dir := t.TempDir()
			secret, main := filepath.Join(dir, name), filepath.Join(dir, "nginx.conf")
			conf := fmt.Sprintf(around, "include "+secret+";") + " events {}"
			if err := errors.Join(os.WriteFile(secret, []byte(text), 0o600),
				os.WriteFile(main, []byte(conf), 0o600)); err != nil {
				t.Fatal(err)
			}
			c, err := Load(main, Options{Resolve: names})
			said := ""
			if err != nil {
				said = err.Error() + hint.Of(err)
				if !strings.Contains(said, secret) {
					t.Errorf("%s in %s: %s does not name the file", name,
						around, said)
				}
			}
			for _, w := range c.Warnings {
				said += w.Message + w.Hint
			}
			said = strings.ReplaceAll(said, secret, "")
			for _, w := range word.FindAllString(text, -1) {
				if strings.Contains(said, w) && !strings.Contains(common, w) {
					t.Errorf("%s in %s: %s quotes %s", name, around, said, w)
				}
			}
		}
	}
}
