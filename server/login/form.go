package login

// Form is what a page asks a person for who logs in.
type Form int

// The forms. Modes of which only a back end knows how people log in have no form.
const (
	NoForm Form = iota
	NameForm
	PasswordForm // a name and a password
	ProviderForm // nothing: an OpenID Connect provider asks
)

// FormOf returns the form of a mode.
func FormOf(m Mode) Form {
	if f, ok := m.(interface{ Form() Form }); ok {
		return f.Form()
	}
	return NoForm
}

// Form is NameForm.
func (Open) Form() Form { return NameForm }

// Form is PasswordForm.
func (*Users) Form() Form { return PasswordForm }

// Form is that of the mode.
func (t *Throttle) Form() Form { return FormOf(t.mode) }
