package login

import "fmt"

// Traits are what the server has to know of a mode beside its decisions. They do not change. Only Guesses has to be said. All
// other zero values are those of a mode which asks a back end that takes its time, and for which no page can ask people to log in.
type Traits struct {
	// Guesses says which secret an attacker has to guess to get past the mode, and has no default: server.New and NewThrottle refuse
	// Traits that do not say it. NewThrottle is for modes that have one.
	Guesses Guesses
	// DecidesAtOnce says that no time passes between an attempt and the answer of Check, in which all sessions of the user could
	// be ended: such a login begins when its session does, and no mark of the user has to be read before.
	DecidesAtOnce bool
	// TakesClaims says that the mode believes the claims in the body of a login.
	TakesClaims bool
	// TakesKeys says that a caller of the mode presents a key as a Bearer token.
	TakesKeys bool
	// Form is what the login page asks a person for.
	Form Form
}

// Guesses says which secret an attacker has to guess to get past a mode. Its zero value says nothing.
type Guesses int

// The secrets.
const (
	// GuessesNothing means that there is no secret, or that somebody else guards it.
	GuessesNothing Guesses = iota + 1
	// GuessesPassword is the password of an account: a failure counts against the account and against the client's address,
	// and is counted before the check, so that parallel guesses count too. An attempt over the limit is not checked.
	GuessesPassword
	// GuessesKey is a key, which is too long to guess: only a failure counts, and only against the client's address. A
	// right key passes even from a locked address, because a back end may share that address with clients without a key.
	GuessesKey
)

// Validate returns the mistake of traits that do not say which secret there is to guess.
func (t Traits) Validate() error {
	if t.Guesses < GuessesNothing || t.Guesses > GuessesKey {
		return fmt.Errorf("login: Guesses is %d in the Traits of the mode: must be GuessesNothing, GuessesPassword or GuessesKey", t.Guesses)
	}
	return nil
}

// Form is what the login page asks a person for.
type Form int

// The forms. Modes of which only a back end knows how people log in have no form.
const (
	NoForm Form = iota
	NameForm
	PasswordForm // a name and a password
	ProviderForm // nothing: an OpenID Connect provider asks
)
