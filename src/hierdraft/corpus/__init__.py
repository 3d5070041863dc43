"""From files, chat logs and answers to documents of token ids."""
