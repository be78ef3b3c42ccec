"""Many runs: which jobs there are, and who starts them."""
