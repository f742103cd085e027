"""Better instructions and answers, kept only if preferred in both orders."""
