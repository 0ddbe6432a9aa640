package bigip

import "regexp"

// format is a format that is not a BIG-IP configuration, but that users may
// have together with one.
type format struct {
	pattern   *regexp.Regexp
	what, fix string
}

// made is the hint for what a BIG-IP's configuration was made from.
const made = "migrate needs the configuration that the BIG-IP made from it: tmsh save sys ucs " +
	"/var/tmp/lb1.ucs"

// formats are searched in this order: one may contain another one.
var formats = []format{
	{regexp.MustCompile(`(?m)^\s*"?apiVersion"?\s*:\s*"?[a-z0-9.-]*f5net\.com/`),
		"is of BIG-IP Next",
		"migrate reads only BIG-IP 11 and newer (TMOS); for BIG-IP Next: lasthop plan " +
			"--gateway IF=ADDR"},
	{regexp.MustCompile(`(?m)^\s*"?apiVersion"?\s*:`), "is a Kubernetes resource", made},
	{regexp.MustCompile(`(?m)^\s*(resource|data)\s+"bigip_|"terraform_version"\s*:`),
		"is a file of Terraform", made},
	{regexp.MustCompile(`"class"\s*:\s*"(AS3|ADC|Tenant)"`), "is an AS3 declaration", made},
	{regexp.MustCompile(`"class"\s*:\s*"(DO|Device)"`),
		"is a declaration of Declarative Onboarding (DO)", made},
	{regexp.MustCompile(`(?m)^\s*(tmsh\s+(-\S+\s+)*)?(create|modify)\s+/?` +
		`(ltm|net|sys|gtm|cm|auth)[ /]`), "is a script of tmsh commands", made},
	{regexp.MustCompile(`(?m)^\s*(Ltm|Net|Sys|Gtm|Cm)::`), "is output of `tmsh show`",
		"it shows states; settings are in the output of `tmsh list`, or in a UCS: tmsh " +
			"save sys ucs /var/tmp/lb1.ucs"},
	{regexp.MustCompile(`"kind"\s*:\s*"tm:[^"]*stats"`),
		"is an answer of iControl REST with statistics",
		"take the configuration: the same address without /stats"},
	{regexp.MustCompile(`"code"\s*:\s*[45][0-9][0-9]\b`),
		"is an answer of iControl REST with an error",
		"read the error, and send the request again: curl --fail reports errors"},
	{jsonStart, "is JSON, but not an answer of iControl REST", accepted},
}

// formatHead is how much of a text is searched for its format, in bytes.
const formatHead = 1 << 20

// formatOf returns the format of a text without a stanza.
func formatOf(data string) (what, fix string) {
	for _, f := range formats {
		if f.pattern.MatchString(data[:min(len(data), formatHead)]) {
			return f.what, f.fix
		}
	}
	return noStanza, accepted
}

const noStanza = "has no stanza of a BIG-IP configuration"
