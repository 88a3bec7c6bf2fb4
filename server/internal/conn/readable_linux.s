// Without a file in assembly the compiler refuses functions without a body, as pollWait is.
